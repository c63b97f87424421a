// TIFF through libtiff's RGBA interface, which knows the compressions and colour spaces of scanners and
// faxes. Each page is a picture; thumbnails and masks that accompany a page are none.
#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "media/decode.h"

namespace fovea {
namespace {

// What libtiff's callbacks touch: the file in memory, and the last thing that went wrong.
struct TiffState {
  Bytes bytes;
  uint64_t at = 0;
  char message[256] = "";
};

TiffState& state_of(thandle_t handle) { return *static_cast<TiffState*>(handle); }

tmsize_t read_bytes(thandle_t handle, void* out, tmsize_t count) {
  TiffState& state = state_of(handle);
  if (count < 0 || state.at >= state.bytes.size()) return 0;
  const size_t kept = std::min(static_cast<size_t>(count), state.bytes.size() - state.at);
  std::memcpy(out, state.bytes.data() + state.at, kept);
  state.at += kept;
  return static_cast<tmsize_t>(kept);
}

tmsize_t refuse_to_write(thandle_t, void*, tmsize_t) { return 0; }

toff_t seek(thandle_t handle, toff_t offset, int whence) {
  TiffState& state = state_of(handle);
  const uint64_t base = whence == SEEK_CUR ? state.at : whence == SEEK_END ? state.bytes.size() : 0;
  return state.at = base + offset;
}

int close_nothing(thandle_t) { return 0; }

// libtiff reads where the file lies. Its other way, through a buffer of its own, takes the buffer's size for
// that of an uncompressed tile under 1 KB and calls the file damaged.
int map_file(thandle_t handle, void** base, toff_t* size) {
  const Bytes& bytes = state_of(handle).bytes;
  *base = const_cast<unsigned char*>(bytes.data());  // it only reads there
  *size = bytes.size();
  return 1;
}
void unmap_nothing(thandle_t, void*, toff_t) {}
toff_t size_of(thandle_t handle) { return state_of(handle).bytes.size(); }

[[gnu::format(printf, 3, 0)]] void keep_message(thandle_t handle, const char*, const char* format,
                                                va_list arguments) {
  if (handle == nullptr) return;
  TiffState& state = state_of(handle);
  std::vsnprintf(state.message, sizeof state.message, format, arguments);
}

// libtiff prints unless told otherwise, and its handlers are the process's; the handle says whose error it
// is.
void silence_libtiff() {
  static std::once_flag once;
  std::call_once(once, [] {
    TIFFSetErrorHandler(nullptr);
    TIFFSetWarningHandler(nullptr);
    TIFFSetErrorHandlerExt(keep_message);
  });
}

class TiffReader {
 public:
  explicit TiffReader(Bytes bytes) : state_{bytes, 0, ""} {
    silence_libtiff();
    tiff_.reset(TIFFClientOpen("", "r", &state_, read_bytes, refuse_to_write, seek, close_nothing, size_of,
                               map_file, unmap_nothing));
    if (!tiff_) fail();
  }
  TiffReader(const TiffReader&) = delete;
  TiffReader& operator=(const TiffReader&) = delete;

  TIFF* get() const { return tiff_.get(); }
  [[noreturn]] void fail() const {
    throw_corrupt("TIFF", *state_.message ? state_.message : "it cannot be read");
  }

  // The directory of each page. Thumbnails and masks say what they are; the first directory always counts.
  std::vector<tdir_t> pages() {
    std::vector<tdir_t> found;
    tdir_t directory = 0;
    do {
      uint32_t kind = 0;
      TIFFGetField(get(), TIFFTAG_SUBFILETYPE, &kind);
      if (directory == 0 || !(kind & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK))) found.push_back(directory);
      if (static_cast<int64_t>(directory) >= 2 * kPagesMax || std::ssize(found) > kPagesMax) {
        throw Error(ErrorKind::exhausted, fmt::format("the TIFF file has more than {} pages", kPagesMax),
                    "split it into several files: tiffsplit FILE.tif page");
      }
      ++directory;
      *state_.message = 0;
    } while (TIFFReadDirectory(get()));
    // The chain of pages must have ended, not broken or led back.
    if (*state_.message || !TIFFLastDirectory(get())) fail();
    return found;
  }

  template <typename Value>
  Value field(uint32_t tag, Value otherwise) const {
    Value value = otherwise;
    return TIFFGetFieldDefaulted(get(), tag, &value) ? value : otherwise;
  }

 private:
  struct Closer {
    void operator()(TIFF* tiff) const { TIFFClose(tiff); }
  };
  TiffState state_;
  std::unique_ptr<TIFF, Closer> tiff_;
};

[[noreturn]] void throw_unreadable_kind(const std::string& detail) {
  throw Error(ErrorKind::unsupported, "this kind of TIFF cannot be shown: " + detail,
              "convert it to 8 bits a channel: magick FILE.tif -depth 8 FILE.png");
}

// Everything that a header can claim, before anything of that size is allocated.
void check_claims(const TiffReader& reader, ImageSize size, const MediaOptions& options) {
  check_header(size, options);
  constexpr int kSamplesMax = 8, kBitsMax = 64;
  const int samples = reader.field<uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1),
            bits = reader.field<uint16_t>(TIFFTAG_BITSPERSAMPLE, 1);
  if (samples > kSamplesMax || bits > kBitsMax) {
    throw_unreadable_kind(fmt::format("{} samples a pixel of {} bits each", samples, bits));
  }
  TIFF* tiff = reader.get();
  const bool tiled = TIFFIsTiled(tiff);
  // A tile may reach past the picture; one far larger than it only costs memory.
  const uint64_t piece = tiled ? TIFFTileSize64(tiff) : TIFFStripSize64(tiff);
  const uint64_t whole = static_cast<uint64_t>(size.height) * static_cast<uint64_t>(size.width) *
                         static_cast<uint64_t>(samples) * static_cast<uint64_t>((bits + 7) / 8);
  constexpr uint64_t kTileSlack = 16 << 20;
  if (piece == 0 || piece > whole + kTileSlack)
    throw_corrupt("TIFF", "its strips are larger than its picture");
  const uint64_t file = size_of(TIFFClientdata(tiff));
  const uint32_t pieces = tiled ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff);
  for (uint32_t i = 0; i < pieces; ++i) {
    const uint64_t at = TIFFGetStrileOffset(tiff, i), count = TIFFGetStrileByteCount(tiff, i);
    if (at > file || count > file - at || count == 0) throw_truncated("TIFF");
  }
}

// What the fourth value of a pixel means in libtiff's raster.
enum class Opacity { none, multiplied, straight };

// libtiff multiplies colours by their opacity when the file says that they are not, but leaves grey as it is,
// and takes an extra sample of unknown meaning for opacity; Pillow takes it for nothing, unless the file does
// not even mention it.
Opacity opacity_of(const TiffReader& reader) {
  uint16_t count = 0;
  uint16_t* kinds = nullptr;
  if (!TIFFGetFieldDefaulted(reader.get(), TIFFTAG_EXTRASAMPLES, &count, &kinds)) count = 0;
  const int photometric = reader.field<uint16_t>(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK),
            samples = reader.field<uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1),
            bits = reader.field<uint16_t>(TIFFTAG_BITSPERSAMPLE, 1);
  if (count == 0) return photometric == PHOTOMETRIC_RGB && samples == 4 ? Opacity::straight : Opacity::none;
  if (kinds[0] != EXTRASAMPLE_ASSOCALPHA && kinds[0] != EXTRASAMPLE_UNASSALPHA) return Opacity::none;
  if (photometric == PHOTOMETRIC_RGB) return Opacity::multiplied;
  const bool grey = photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_MINISWHITE;
  const bool interleaved =
      reader.field<uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_CONTIG;
  if (!grey || bits != 8 || samples != 2 || !interleaved) {
    throw_unreadable_kind("transparency beside colours that are neither RGB nor 8-bit grey");
  }
  return kinds[0] == EXTRASAMPLE_ASSOCALPHA ? Opacity::multiplied : Opacity::straight;
}

// One row of the raster to RGB, on white.
void to_rgb(const uint32_t* raster, int64_t width, Opacity opacity, uint8_t* rgb) {
  for (int64_t x = 0; x < width; ++x, rgb += 3) {
    uint8_t rgba[4];  // the lowest byte is red on machines of either byte order
    for (int c = 0; c < 4; ++c) rgba[c] = static_cast<uint8_t>(raster[x] >> (8 * c));
    if (opacity == Opacity::straight) {
      rgba_to_rgb(rgba, rgb, 1);
      continue;
    }
    const int ground = opacity == Opacity::multiplied ? 255 - rgba[3] : 0;
    for (int c = 0; c < 3; ++c) rgb[c] = static_cast<uint8_t>(std::min(rgba[c] + ground, 255));
  }
}

bool is_wide_grey(const TiffReader& reader) {
  const int photometric = reader.field<uint16_t>(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  return reader.field<uint16_t>(TIFFTAG_BITSPERSAMPLE, 1) == 16 &&
         reader.field<uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1) == 1 &&
         (photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_MINISWHITE);
}

// One piece of a picture of 16-bit grey, in place of libtiff's own, which keeps the high bytes and heeds that
// white may be zero. Pillow does neither: values above 255 are white. Skews count pixels.
template <typename Sample>
void put_clipped(TIFFRGBAImage*, uint32_t* raster, uint32_t, uint32_t, uint32_t width, uint32_t height,
                 int32_t from_skew, int32_t to_skew, unsigned char* bytes) {
  for (; height > 0; --height, raster += to_skew, bytes += from_skew * std::ptrdiff_t{sizeof(Sample)}) {
    for (uint32_t x = 0; x < width; ++x, bytes += sizeof(Sample)) {
      Sample sample;
      std::memcpy(&sample, bytes, sizeof sample);
      const auto grey = static_cast<uint32_t>(std::clamp<int>(sample, 0, 255));
      *raster++ = 0xFF000000u | grey << 16 | grey << 8 | grey;
    }
  }
}

struct RgbaImage {
  TIFFRGBAImage image{};
  ~RgbaImage() { TIFFRGBAImageEnd(&image); }
};

}  // namespace

int64_t tiff_pages(Bytes bytes) { return std::ssize(TiffReader(bytes).pages()); }

Decoded decode_tiff(Bytes bytes, const MediaOptions& options) {
  TiffReader reader(bytes);
  const std::vector<tdir_t> pages = reader.pages();
  if (options.page < 0 || options.page >= std::ssize(pages)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("there is no page {}, the file has {}", options.page + 1, pages.size()),
                "give the number of a page that is there");
  }
  if (!TIFFSetDirectory(reader.get(), pages[static_cast<size_t>(options.page)])) reader.fail();
  const ImageSize size{reader.field<uint32_t>(TIFFTAG_IMAGELENGTH, 0),
                       reader.field<uint32_t>(TIFFTAG_IMAGEWIDTH, 0)};
  check_claims(reader, size, options);
  const Opacity opacity = opacity_of(reader);
  const int orientation = reader.field<uint16_t>(TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);

  char reason[1024] = "";
  if (!TIFFRGBAImageOK(reader.get(), reason)) throw_unreadable_kind(reason);
  RgbaImage rgba;
  constexpr int kStopOnError = 1;
  if (!TIFFRGBAImageBegin(&rgba.image, reader.get(), kStopOnError, reason)) throw_corrupt("TIFF", reason);
  if (is_wide_grey(reader)) {
    const bool is_signed =
        reader.field<uint16_t>(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT) == SAMPLEFORMAT_INT;
    rgba.image.put.contig = is_signed ? put_clipped<int16_t> : put_clipped<uint16_t>;
  }
  // The rows as they are stored; turning is upright()'s work, which also knows the quarter turns.
  rgba.image.orientation = rgba.image.req_orientation = ORIENTATION_TOPLEFT;
  Buffer<uint32_t> raster(size.height * size.width);
  if (!TIFFRGBAImageGet(&rgba.image, raster.data(), static_cast<uint32_t>(size.width),
                        static_cast<uint32_t>(size.height))) {
    reader.fail();
  }
  Decoded decoded{Image(size), orientation};
  for (int64_t y = 0; y < size.height; ++y) {
    to_rgb(raster.data() + y * size.width, size.width, opacity, decoded.image.row(y));
  }
  return decoded;
}

}  // namespace fovea
