// PNG through libpng, in the sample formats Pillow's PNG plugin chooses.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "media/decode.h"
#include "media/orientation.h"

namespace fovea {
namespace {

// Everything libpng's callbacks touch. Errors leave libpng by longjmp, so the steps between guarded() and
// libpng own nothing that has a destructor.
struct PngState {
  png_structp png;
  png_infop info, end;
  const uint8_t* next;
  size_t left;
  size_t allocation_max;
  bool truncated;
  std::jmp_buf escape;
  char message[256];
};

[[noreturn]] void leave(png_structp png, png_const_charp message) {
  PngState& state = *static_cast<PngState*>(png_get_error_ptr(png));
  std::snprintf(state.message, sizeof state.message, "%s", message);
  std::longjmp(state.escape, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, size_t count) {
  PngState& state = *static_cast<PngState*>(png_get_io_ptr(png));
  if (count > state.left) {
    state.truncated = true;
    png_error(png, "end of data");
  }
  std::memcpy(out, state.next, count);
  state.next += count;
  state.left -= count;
}

// libpng allocates and clears whatever a chunk's length field claims, up to 2 GiB (png_set_chunk_malloc_max
// only warns); but no chunk holds more than the file, and rows within the accepted aspect ratio are short.
png_voidp allocate(png_structp png, png_alloc_size_t count) {
  const PngState& state = *static_cast<PngState*>(png_get_mem_ptr(png));
  return count > state.allocation_max ? nullptr : std::malloc(count);
}

void release(png_structp, png_voidp memory) { std::free(memory); }

// Never inlined: what setjmp does to a caller's local variables stays its own affair.
template <typename Step>
[[gnu::noinline]] bool guarded(PngState& state, Step step) {
  if (setjmp(state.escape)) return false;
  step();
  return true;
}

struct PngHeader {
  ImageSize size;
  int bit_depth = 0, colour = 0;
  bool interlaced = false;
};

class PngReader {
 public:
  explicit PngReader(Bytes bytes) : state_{} {
    state_.next = bytes.data();
    state_.left = bytes.size();
    state_.allocation_max = std::max<size_t>(bytes.size(), 16 << 20);
    require(guarded(state_, [this] {
      state_.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &state_, leave, ignore_warning, &state_,
                                            allocate, release);
      state_.info = state_.png ? png_create_info_struct(state_.png) : nullptr;
      state_.end = state_.png ? png_create_info_struct(state_.png) : nullptr;
    }));
    if (!state_.end) throw Error(ErrorKind::exhausted, "libpng found no memory", "free some memory");
  }
  ~PngReader() { png_destroy_read_struct(&state_.png, &state_.info, &state_.end); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  PngHeader read_header() {
    require(guarded(state_, [this] {
      png_set_read_fn(state_.png, &state_, read_bytes);
      png_set_user_limits(state_.png, PNG_UINT_31_MAX,
                          PNG_UINT_31_MAX);  // check_header has its own, stricter limit
      png_read_info(state_.png, state_.info);
    }));
    PngHeader header;
    header.size = {png_get_image_height(state_.png, state_.info),
                   png_get_image_width(state_.png, state_.info)};
    header.bit_depth = png_get_bit_depth(state_.png, state_.info);
    header.colour = png_get_color_type(state_.png, state_.info);
    header.interlaced = png_get_interlace_type(state_.png, state_.info) != PNG_INTERLACE_NONE;
    return header;
  }

  // Palettes stay indices, 16-bit colour keeps its high byte, 16-bit grey stays 16-bit.
  void choose_samples(const PngHeader& header) {
    require(guarded(state_, [this, &header] {
      if (header.colour == PNG_COLOR_TYPE_PALETTE) png_set_packing(state_.png);
      if (header.colour == PNG_COLOR_TYPE_GRAY && header.bit_depth < 8)
        png_set_expand_gray_1_2_4_to_8(state_.png);
      if (header.colour != PNG_COLOR_TYPE_GRAY && header.bit_depth == 16) png_set_strip_16(state_.png);
      png_set_interlace_handling(state_.png);
      png_read_update_info(state_.png, state_.info);
    }));
  }
  int64_t row_bytes() const { return static_cast<int64_t>(png_get_rowbytes(state_.png, state_.info)); }

  void read_row(uint8_t* row) {
    require(guarded(state_, [this, row] { png_read_row(state_.png, row, nullptr); }));
  }

  // The chunks after the picture; Pillow does not mind when they are damaged or missing.
  void read_end() {
    guarded(state_, [this] { png_read_end(state_.png, state_.end); });
  }

  // What its indices show: indices past its end are black, as in Pillow; tRNS gives each an opacity.
  std::array<uint8_t, 768> palette() const {
    std::array<uint8_t, 1024> rgba{};
    for (size_t i = 0; i < 256; ++i) rgba[i * 4 + 3] = 255;
    png_colorp colours = nullptr;
    png_bytep opacities = nullptr;
    int count = 0, opacity_count = 0;
    png_get_PLTE(state_.png, state_.info, &colours, &count);
    png_get_tRNS(state_.png, state_.info, &opacities, &opacity_count, nullptr);
    for (int i = 0; i < std::min(count, 256); ++i) {
      const uint8_t rgb[3] = {colours[i].red, colours[i].green, colours[i].blue};
      std::copy_n(rgb, 3, rgba.data() + i * 4);
    }
    for (int i = 0; opacities && i < std::min(opacity_count, 256); ++i)
      rgba[static_cast<size_t>(i) * 4 + 3] = opacities[i];
    std::array<uint8_t, 768> shown{};
    rgba_to_rgb(rgba.data(), shown.data(), 256);
    return shown;
  }

  // The one grey or colour that tRNS makes transparent, in 8 bits. Pillow compares the low byte of what the
  // chunk states with the samples that it made 8 bits of, and takes anything but 0 for the white of 1 bit.
  std::optional<std::array<uint8_t, 3>> transparent_colour(const PngHeader& header) const {
    png_color_16p key = nullptr;
    if (!png_get_tRNS(state_.png, state_.info, nullptr, nullptr, &key) || !key) return std::nullopt;
    const auto low_byte = [](png_uint_16 value) { return static_cast<uint8_t>(value & 0xff); };
    if (header.colour == PNG_COLOR_TYPE_RGB)
      return std::array{low_byte(key->red), low_byte(key->green), low_byte(key->blue)};
    if (header.colour != PNG_COLOR_TYPE_GRAY) return std::nullopt;
    const uint8_t grey = header.bit_depth == 1 ? (key->gray ? 255 : 0) : low_byte(key->gray);
    return std::array{grey, grey, grey};
  }

  int orientation() const;

 private:
  void require(bool fine) const {
    if (fine) return;
    if (state_.truncated) throw_truncated("PNG");
    throw_corrupt("PNG", state_.message);
  }
  PngState state_;
};

// ImageMagick's text form of an EXIF block: a name, a decimal length, then hexadecimal with line breaks.
std::vector<uint8_t> parse_raw_profile(std::string_view text) {
  std::vector<uint8_t> bytes;
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == text.npos) return bytes;
    text.remove_prefix(end + 1);
  }
  int high = -1;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) continue;
    if (high >= 0) bytes.push_back(static_cast<uint8_t>(high << 4 | digit));
    high = high >= 0 ? -1 : digit;
  }
  return bytes;
}

int PngReader::orientation() const {
  int from_text = 0;
  for (const png_infop info : {state_.info, state_.end}) {
    png_uint_32 count = 0;
    png_bytep exif = nullptr;
    if (png_get_eXIf_1(state_.png, info, &count, &exif) && exif) {
      if (const int found = exif_orientation({exif, count})) return found;
    }
    png_textp texts = nullptr;
    const int text_count = png_get_text(state_.png, info, &texts, nullptr);
    for (int i = 0; i < text_count && from_text == 0; ++i) {
      const std::string_view key(texts[i].key);
      const std::string_view value(texts[i].text, std::max(texts[i].text_length, texts[i].itxt_length));
      if (key == "Raw profile type exif") from_text = exif_orientation(parse_raw_profile(value));
      if (key == "XML:com.adobe.xmp") {
        from_text = xmp_orientation({reinterpret_cast<const uint8_t*>(value.data()), value.size()});
      }
    }
  }
  return from_text;
}

// One row of any of the sample formats to RGB.
class RowConverter {
 public:
  RowConverter(const PngReader& reader, const PngHeader& header)
      : header_(header),
        palette_(reader.palette()),
        transparent_(reader.transparent_colour(header)),
        rgba_(header.size.width * 4) {}

  void operator()(const uint8_t* in, uint8_t* rgb) {
    const int64_t width = header_.size.width;
    const bool wide = header_.bit_depth == 16;
    switch (header_.colour) {
      case PNG_COLOR_TYPE_GRAY:
        for (int64_t x = 0; x < width; ++x) std::fill_n(rgb + x * 3, 3, wide ? clipped(in + x * 2) : in[x]);
        return whiten_transparent(rgb);
      case PNG_COLOR_TYPE_PALETTE:
        for (int64_t x = 0; x < width; ++x) std::copy_n(palette_.data() + in[x] * 3, 3, rgb + x * 3);
        return;
      case PNG_COLOR_TYPE_GRAY_ALPHA:
        for (int64_t x = 0; x < width; ++x) {
          std::fill_n(rgba_.data() + x * 4, 3, in[x * 2]);
          rgba_[x * 4 + 3] = in[x * 2 + 1];
        }
        return rgba_to_rgb(rgba_.data(), rgb, width);
      case PNG_COLOR_TYPE_RGB_ALPHA:
        return rgba_to_rgb(in, rgb, width);
      default:
        std::copy_n(in, width * 3, rgb);
        return whiten_transparent(rgb);
    }
  }

 private:
  void whiten_transparent(uint8_t* rgb) const {
    if (!transparent_) return;
    for (int64_t x = 0; x < header_.size.width; ++x, rgb += 3) {
      if (std::equal(transparent_->begin(), transparent_->end(), rgb)) std::fill_n(rgb, 3, uint8_t{255});
    }
  }
  static uint8_t clipped(const uint8_t* big_endian) { return big_endian[0] ? 255 : big_endian[1]; }
  PngHeader header_;
  std::array<uint8_t, 768> palette_;
  std::optional<std::array<uint8_t, 3>> transparent_;
  Buffer<uint8_t> rgba_;
};

}  // namespace

Decoded decode_png(Bytes bytes, const MediaOptions& options) {
  PngReader reader(bytes);
  const PngHeader header = reader.read_header();
  check_header(header.size, options);
  reader.choose_samples(header);
  Decoded decoded{Image(header.size), 0};
  RowConverter convert(reader, header);
  const int64_t height = header.size.height, row_bytes = reader.row_bytes();
  if (header.interlaced) {
    // Seven passes refine the same rows, so all of them must be kept; libpng reads back what it wrote.
    Buffer<uint8_t> rows(height * row_bytes);
    constexpr int kPasses = 7;
    for (int pass = 0; pass < kPasses; ++pass) {
      for (int64_t y = 0; y < height; ++y) reader.read_row(rows.data() + y * row_bytes);
    }
    for (int64_t y = 0; y < height; ++y) convert(rows.data() + y * row_bytes, decoded.image.row(y));
  } else {
    Buffer<uint8_t> row(row_bytes);
    for (int64_t y = 0; y < height; ++y) {
      reader.read_row(row.data());
      convert(row.data(), decoded.image.row(y));
    }
  }
  reader.read_end();
  decoded.orientation = reader.orientation();
  return decoded;
}

}  // namespace fovea
