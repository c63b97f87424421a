// JPEG through libjpeg-turbo with its defaults (accurate integer DCT, smooth chroma upsampling), which are
// Pillow's.
#include <algorithm>
#include <csetjmp>
#include <cstdio>
// libjpeg's headers need size_t and FILE declared before them, in this order.
// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on
#include <string_view>

#include "media/decode.h"
#include "media/orientation.h"

namespace fovea {
namespace {

constexpr int kScansMax =
    1000;  // a progressive file needs about 10; each scan costs a pass over all coefficients

// Everything libjpeg's callbacks touch. Errors leave libjpeg by longjmp, so the steps between guarded() and
// libjpeg own nothing that has a destructor.
struct JpegState {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
  bool truncated;
};

JpegState& state_of(j_common_ptr info) { return *static_cast<JpegState*>(info->client_data); }

void leave(j_common_ptr info) {
  JpegState& state = state_of(info);
  (*info->err->format_message)(info, state.message);
  std::longjmp(state.escape, 1);
}

void stay_silent(j_common_ptr) {}
void ignore_warning(j_common_ptr, int) {}

void limit_scans(j_common_ptr info) {
  if (!info->is_decompressor || reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kScansMax)
    return;
  JpegState& state = state_of(info);
  std::snprintf(state.message, sizeof state.message, "more than %d scans", kScansMax);
  std::longjmp(state.escape, 1);
}

void source_begins(j_decompress_ptr) {}

boolean source_is_empty(j_decompress_ptr info) {
  state_of(reinterpret_cast<j_common_ptr>(info)).truncated = true;
  ERREXIT(info, JERR_INPUT_EOF);
  return FALSE;
}

void source_skips(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  if (static_cast<size_t>(count) > info->src->bytes_in_buffer) source_is_empty(info);
  info->src->next_input_byte += count;
  info->src->bytes_in_buffer -= static_cast<size_t>(count);
}

void source_ends(j_decompress_ptr) {}

// False when libjpeg reported an error. Never inlined: what setjmp does to a caller's local variables stays
// its own affair.
template <typename Step>
[[gnu::noinline]] bool guarded(JpegState& state, Step step) {
  if (setjmp(state.escape)) return false;
  step();
  return true;
}

class JpegReader {
 public:
  explicit JpegReader(Bytes bytes) : state_{} {
    state_.info.err = jpeg_std_error(&state_.errors);
    state_.errors.error_exit = leave;
    state_.errors.output_message = stay_silent;
    state_.errors.emit_message = ignore_warning;  // Pillow decodes past warnings too
    state_.info.client_data = &state_;
    state_.progress.progress_monitor = limit_scans;
    state_.source = {bytes.data(), bytes.size(),           source_begins, source_is_empty,
                     source_skips, jpeg_resync_to_restart, source_ends};
    require(guarded(state_, [this] {
      jpeg_create_decompress(&state_.info);
      state_.info.src = &state_.source;
      state_.info.progress = &state_.progress;
    }));
  }
  ~JpegReader() { jpeg_destroy_decompress(&state_.info); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  ImageSize read_header() {
    require(guarded(state_, [this] { jpeg_read_header(&state_.info, TRUE); }));
    return {static_cast<int64_t>(state_.info.image_height), static_cast<int64_t>(state_.info.image_width)};
  }
  int components() const { return state_.info.num_components; }

  // Decodes the whole picture; each row passes through convert(samples, y), samples being `row`.
  template <typename Convert>
  void read_rows(J_COLOR_SPACE space, uint8_t* row, Convert convert) {
    require(guarded(state_, [this, space, row, &convert] {
      jpeg_decompress_struct& info = state_.info;
      info.out_color_space = space;
      jpeg_start_decompress(&info);
      while (info.output_scanline < info.output_height) {
        JSAMPROW target = row;
        const int64_t y = info.output_scanline;
        if (jpeg_read_scanlines(&info, &target, 1) == 1) convert(row, y);
      }
      jpeg_finish_decompress(&info);  // requires the end marker, as Pillow does
    }));
  }

 private:
  void require(bool fine) const {
    if (fine) return;
    if (state_.truncated) throw_truncated("JPEG");
    throw_corrupt("JPEG", state_.message);
  }
  JpegState state_;
};

// Pillow always reads four components with Adobe's inversion, then multiplies the inks with what black
// leaves.
void inverted_cmyk_to_rgb(const uint8_t* cmyk, uint8_t* rgb, int64_t width) {
  for (int64_t x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[c]) * light + 128;
      rgb[c] = static_cast<uint8_t>(std::clamp(light - ((product + (product >> 8)) >> 8), 0, 255));
    }
  }
}

// The payloads of the APP1 segments before the first scan, until one of them holds an orientation.
int jpeg_orientation(Bytes bytes) {
  constexpr std::string_view kExif("Exif\0\0", 6), kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  int from_xmp = 0;
  for (size_t at = 2; at + 4 <= bytes.size();) {
    if (bytes[at] != 0xff) return from_xmp;
    const uint8_t marker = bytes[at + 1];
    if (marker == 0xff) {
      ++at;
      continue;
    }
    const size_t length = static_cast<size_t>(bytes[at + 2] << 8 | bytes[at + 3]);
    if (marker == 0xda || length < 2 || at + 2 + length > bytes.size()) return from_xmp;
    const Bytes body = bytes.subspan(at + 4, length - 2);
    const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
    if (marker == 0xe1 && text.starts_with(kExif)) {
      if (const int orientation = exif_orientation(body)) return orientation;
    } else if (marker == 0xe1 && text.starts_with(kXmp) && from_xmp == 0) {
      from_xmp = xmp_orientation(body);
    }
    at += 2 + length;
  }
  return from_xmp;
}

}  // namespace

Decoded decode_jpeg(Bytes bytes, const MediaOptions& options) {
  JpegReader reader(bytes);
  const ImageSize size = reader.read_header();
  check_header(size, options);
  Decoded decoded{Image(size), jpeg_orientation(bytes)};
  Image& image = decoded.image;
  Buffer<uint8_t> row(size.width * 4);
  switch (reader.components()) {
    case 1:
      reader.read_rows(JCS_GRAYSCALE, row.data(), [&](const uint8_t* grey, int64_t y) {
        for (int64_t i = 0; i < size.width * 3; ++i) image.row(y)[i] = grey[i / 3];
      });
      break;
    case 3:
      reader.read_rows(JCS_RGB, row.data(), [&](const uint8_t* rgb, int64_t y) {
        std::copy_n(rgb, size.width * 3, image.row(y));
      });
      break;
    case 4:
      reader.read_rows(JCS_CMYK, row.data(), [&](const uint8_t* cmyk, int64_t y) {
        inverted_cmyk_to_rgb(cmyk, image.row(y), size.width);
      });
      break;
    default:
      throw Error(ErrorKind::unsupported, fmt::format("a JPEG of {} components", reader.components()),
                  "convert it to an RGB JPEG or PNG");
  }
  return decoded;
}

}  // namespace fovea
