// Goal: whatever is wrong with a picture or video ends in an Error that names it and a remedy, in bounded
// memory. Method: files built here in memory, or goldens cut off and damaged at many places; run under ASan
// and UBSan in CI.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "media/decode.h"
#include "media/smart_resize.h"
#include "media/source.h"
#include "media/video.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
const std::string kFolder = std::string(FOVEA_SOURCE_DIR) + "/tests/data/media/";

// Runs `work` and expects an Error of `kind` whose message holds `part` and whose remedy is not empty.
template <typename Work>
void expect_error(ErrorKind kind, const std::string& part, Work work) {
  try {
    work();
    ADD_FAILURE() << "no error; expected one with \"" << part << "\"";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.kind()), std::string(name_of(kind))) << error.what();
    EXPECT_NE(error.message().find(part), std::string::npos) << error.what();
    EXPECT_FALSE(error.remedy().empty()) << error.what();
  }
}

std::vector<uint8_t> file_bytes(const std::string& path) {
  const Buffer<uint8_t> bytes = read_source(path);
  return {bytes.data(), bytes.data() + bytes.size()};
}

Image decode(const std::vector<uint8_t>& bytes) { return decode_image(bytes, MediaOptions{}); }

void append_u32(std::vector<uint8_t>& bytes, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(value >> shift));
}

uint32_t crc32_of(const uint8_t* data, size_t count) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < count; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

// A PNG of 8-bit RGB that claims a size and holds nothing.
std::vector<uint8_t> png_claiming(uint32_t width, uint32_t height) {
  std::vector<uint8_t> bytes{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R'};
  append_u32(bytes, width);
  append_u32(bytes, height);
  bytes.insert(bytes.end(), {8, 2, 0, 0, 0});
  append_u32(bytes, crc32_of(bytes.data() + 12, 17));
  bytes.insert(bytes.end(), {0, 0, 0, 0, 'I', 'D', 'A', 'T'});
  append_u32(bytes, crc32_of(bytes.data() + bytes.size() - 4, 4));
  return bytes;
}

// The file with its start-of-frame changed to claim another size.
std::vector<uint8_t> jpeg_claiming(uint16_t width, uint16_t height) {
  auto bytes = file_bytes(kFolder + "jpeg_444.jpg");
  for (size_t at = 2; at + 9 < bytes.size();
       at += 2 + static_cast<size_t>(bytes[at + 2] << 8 | bytes[at + 3])) {
    if (bytes[at + 1] != 0xc0) continue;
    bytes[at + 5] = static_cast<uint8_t>(height >> 8);
    bytes[at + 6] = static_cast<uint8_t>(height);
    bytes[at + 7] = static_cast<uint8_t>(width >> 8);
    bytes[at + 8] = static_cast<uint8_t>(width);
    return bytes;
  }
  ADD_FAILURE() << "no SOF0 found";
  return bytes;
}

std::vector<uint8_t> gif_claiming(uint16_t width, uint16_t height) {
  auto bytes = file_bytes(kFolder + "gif_plain.gif");
  bytes[6] = static_cast<uint8_t>(width);
  bytes[7] = static_cast<uint8_t>(width >> 8);
  bytes[8] = static_cast<uint8_t>(height);
  bytes[9] = static_cast<uint8_t>(height >> 8);
  return bytes;
}

// A file that lives as long as the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::vector<uint8_t>& bytes, const std::string& suffix = "")
      : path_((fs::temp_directory_path() / fmt::format("fovea_media_{}_{}{}", ::getpid(), count_++, suffix))
                  .string()) {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  }
  ~TemporaryFile() { fs::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  inline static int count_ = 0;
  std::string path_;
};

TEST(BadInput, StripIsRefusedByItsRatio) {
  expect_error(ErrorKind::invalid_argument, "aspect ratio must be smaller than 200, got 1000000",
               [] { decode(png_claiming(1, 1000000)); });
  expect_error(ErrorKind::invalid_argument, "aspect ratio", [] { decode(jpeg_claiming(65000, 2)); });
  expect_error(ErrorKind::invalid_argument, "got 201", [] { check_aspect_ratio({1, 201}); });
  check_aspect_ratio({1, 200});
}

TEST(BadInput, BombsAreRefusedByTheirHeader) {
  expect_error(ErrorKind::exhausted, "60000 x 60000", [] { decode(png_claiming(60000, 60000)); });
  expect_error(ErrorKind::exhausted, "60000 x 60000", [] { decode(jpeg_claiming(60000, 60000)); });
  expect_error(ErrorKind::exhausted, "60000 x 60000", [] { decode(gif_claiming(60000, 60000)); });
  expect_error(ErrorKind::exhausted, "2147483647 x 2147483647",
               [] { decode(png_claiming(0x7fffffff, 0x7fffffff)); });
  auto bmp = file_bytes(kFolder + "bmp_24.bmp");
  bmp[18 + 2] = bmp[22 + 2] = 1;  // both sides plus 65536
  expect_error(ErrorKind::exhausted, "65563 x 65555", [&] { decode(bmp); });
}

// The little-endian TIFF with the value of a LONG or SHORT tag changed.
std::vector<uint8_t> tiff_claiming(const std::string& name, uint16_t tag, uint32_t value) {
  auto bytes = file_bytes(kFolder + name);
  const auto u16 = [&](size_t at) { return static_cast<uint32_t>(bytes[at] | bytes[at + 1] << 8); };
  const size_t directory = u16(4) | u16(6) << 16;
  for (size_t i = 0; i < u16(directory); ++i) {
    const size_t entry = directory + 2 + i * 12;
    if (u16(entry) != tag) continue;
    for (size_t byte = 0; byte < (u16(entry + 2) == 3 ? 2u : 4u); ++byte)
      bytes[entry + 8 + byte] = static_cast<uint8_t>(value >> (8 * byte));
    return bytes;
  }
  ADD_FAILURE() << "no tag " << tag;
  return bytes;
}

TEST(BadInput, TiffClaimsAreCheckedBeforeAnythingIsAllocated) {
  constexpr uint16_t kWidth = 256, kLength = 257, kCompression = 259, kOffsets = 273, kSamples = 277,
                     kCounts = 279;
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  for (const char* name : {"tiff_rgb_plain.tif", "tiff_rgb_lzw.tif", "tiff_rgb_deflate.tif"}) {
    EXPECT_THROW(decode(tiff_claiming(name, kWidth, 65000)), Error) << name;
    EXPECT_THROW(decode(tiff_claiming(name, kLength, 60000)), Error) << name;
    EXPECT_THROW(decode(tiff_claiming(name, kSamples, 60000)), Error) << name;
    EXPECT_THROW(decode(tiff_claiming(name, kCompression, 50001)), Error) << name;
    EXPECT_THROW(decode(tiff_claiming(name, kOffsets, 0x7fffff00)), Error) << name;
    // Of uncompressed pixels libtiff knows better what the count must be.
    if (name != std::string("tiff_rgb_plain.tif")) {
      EXPECT_THROW(decode(tiff_claiming(name, kCounts, 0x7fffff00)), Error) << name;
    }
  }
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 100 << 10) << "KiB";
  MediaOptions options;
  options.pixels_decoded_max = 1000;
  expect_error(ErrorKind::exhausted, "47 x 33",
               [&] { decode_image(file_bytes(kFolder + "tiff_rgb_plain.tif"), options); });
}

TEST(BadInput, AChainOfTiffPagesThatBreaksOrCirclesIsRefused) {
  auto bytes = file_bytes(kFolder + "tiff_pages.tif");
  const auto whole = bytes;
  const auto u32 = [&](size_t at) {
    return static_cast<size_t>(bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24);
  };
  const size_t first = u32(4),
               link = first + 2 + 12 * static_cast<size_t>(bytes[first] | bytes[first + 1] << 8);
  EXPECT_EQ(pages_in(bytes), 3);
  std::copy_n(whole.begin() + 4, 4, bytes.begin() + static_cast<std::ptrdiff_t>(link));  // page 2 is page 1
  EXPECT_THROW(pages_in(bytes), Error);
  bytes = whole;
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(link), 3, uint8_t{0x7f});  // page 2 lies nowhere
  EXPECT_THROW(pages_in(bytes), Error);
  MediaOptions options;
  options.page = 3;
  expect_error(ErrorKind::invalid_argument, "there is no page 4, the file has 3",
               [&] { decode_image(whole, options); });
  const std::vector<std::string> frames{kFolder + "tiff_pages.tif"};
  expect_error(ErrorKind::invalid_argument, "a frame of 3 pages",
               [&] { load_frames(frames, MediaOptions{}); });
}

TEST(BadInput, APdfIsRefusedWithTheCommandThatHelps) {
  const std::string text = "%PDF-1.7 ...";
  const TemporaryFile pdf({text.begin(), text.end()}, " it's.pdf");
  try {
    load_image(pdf.path(), MediaOptions{});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find(pdf.path() + ": a PDF is not a picture"), std::string::npos)
        << error.what();
    std::string quoted = pdf.path();
    quoted.replace(quoted.find('\''), 1, "'\\''");
    EXPECT_NE(error.remedy().find("pdftoppm -r 150 -png '" + quoted + "' page"), std::string::npos)
        << error.what();
  }
  expect_error(ErrorKind::unsupported, "a PDF is not",
               [] { load_image("data:application/pdf;base64,JVBERi0xLjc=", MediaOptions{}); });
}

TEST(BadInput, DataUrlsAndControlCharactersAreNotShown) {
  const std::string url = "data:image/jpeg;base64," + std::string(100'000, 'A');
  EXPECT_EQ(shown_source(url), "data:image/jpeg;base64,AAAAAAAAAAAAAAAAA... (100023 characters)");
  EXPECT_EQ(shown_source("a/b.png"), "a/b.png");
  EXPECT_EQ(shown_source("\x1b[2J.png"), "\\x1b[2J.png");
  const Buffer<uint8_t> bytes = read_source(kFolder + "png_one_pixel.png");
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string good = "data:image/png;base64,";
  for (int64_t bit = 0; bit < bytes.size() * 8; bit += 6) {
    uint32_t value = 0;
    for (int64_t i = bit; i < bit + 6; ++i)
      value = value << 1 | (i / 8 < bytes.size() ? bytes[i / 8] >> (7 - i % 8) & 1u : 0u);
    good += kAlphabet[value];
  }
  const Picture picture = load_image(good, MediaOptions{});
  EXPECT_LT(picture.source.size(), 80u) << picture.source;
}

TEST(BadInput, AHeaderJustBelowTheLimitWithoutPixelsCostsNoMemory) {
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  expect_error(ErrorKind::corrupt, "truncated", [] { decode(png_claiming(16000, 16000)); });
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 100 << 10) << "KiB";  // the pixels would be 732 MiB
}

TEST(BadInput, AChunkThatClaimsAGigabyteCostsNoMemory) {
  auto bytes = file_bytes(kFolder + "png_xmp3.png");
  const std::string name = "iTXt";
  const auto at = std::search(bytes.begin(), bytes.end(), name.begin(), name.end());
  ASSERT_NE(at, bytes.end());
  *(at - 4) = 0x40;  // the most significant byte of its length
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  EXPECT_THROW(decode(bytes), Error);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 100 << 10) << "KiB";
}

TEST(BadInput, ZeroSidesAreRefused) {
  expect_error(ErrorKind::corrupt, "PNG", [] { decode(png_claiming(0, 10)); });
  expect_error(ErrorKind::corrupt, "JPEG", [] { decode(jpeg_claiming(0, 10)); });
  auto gif = file_bytes(kFolder + "gif_plain.gif");
  gif[6] = gif[7] = gif[8] = gif[9] = 0;
  EXPECT_NO_THROW(decode(gif));  // the first frame enlarges the screen
}

TEST(BadInput, EveryPrefixOfEveryFormatIsAnErrorNeverGarbage) {
  for (const char* name :
       {"jpeg_420.jpg", "jpeg_progressive.jpg", "jpeg_cmyk.jpg", "png_rgb8.png",
        "png_palette4_interlaced.png", "webp_lossy.webp", "webp_lossless_alpha.webp", "webp_animated.webp",
        "gif_interlaced.gif", "bmp_24.bmp", "bmp_8.bmp", "tiff_fax_group4.tif", "tiff_rgb_lzw.tif"}) {
    const auto whole = file_bytes(kFolder + name);
    // What may be missing without a pixel missing: PNG's IEND chunk and checksum, GIF's terminators, BMP's
    // padding, the end of TIFF's tags.
    const std::string format = fs::path(name).extension();
    const size_t tail = format == ".png" ? 16 : format == ".gif" ? 4 : format == ".tif" ? 5 : 0;
    const size_t step = std::max<size_t>(whole.size() / 200, 1);
    for (size_t size = 0; size + tail < whole.size(); size += step) {
      const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_THROW(decode(cut), Error) << name << " cut to " << size << " of " << whole.size();
    }
  }
}

TEST(BadInput, DamagedBytesNeverCrash) {
  uint64_t random = 88172645463325252;  // xorshift
  const auto next = [&random] {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return static_cast<size_t>(random >> 11);
  };
  int64_t errors = 0, pictures = 0;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    const std::string suffix = entry.path().extension();
    if (suffix != ".jpg" && suffix != ".png" && suffix != ".webp" && suffix != ".gif" && suffix != ".bmp" &&
        suffix != ".tif")
      continue;
    const auto whole = file_bytes(entry.path());
    MediaOptions options;
    options.pixels_decoded_max = 1 << 15;
    for (int round = 0; round < 40; ++round) {
      auto bytes = whole;
      // Half of the damage goes where the headers are.
      const size_t reach = round % 2 ? std::min<size_t>(bytes.size(), 128) : bytes.size();
      for (size_t i = 0; i <= next() % 6; ++i) bytes[next() % reach] = static_cast<uint8_t>(next());
      try {
        const Image image = decode_image(bytes, options);
        EXPECT_GT(image.rgb.size(), 0);
        ++pictures;
      } catch (const Error&) {
        ++errors;
      }
    }
  }
  EXPECT_GT(errors, 500);
  EXPECT_GT(pictures, 100);
}

TEST(BadInput, SourcesThatAreNoFileAreNamed) {
  const MediaOptions options;
  expect_error(ErrorKind::not_found, "/nowhere/cat.png: no such file",
               [&] { load_image("/nowhere/cat.png", options); });
  expect_error(ErrorKind::invalid_argument, "is a directory", [&] { load_image(kFolder, options); });
  expect_error(ErrorKind::invalid_argument, "not a regular file", [&] { load_image("/dev/zero", options); });
  expect_error(ErrorKind::unsupported, "https://example.org/cat.png",
               [&] { load_image("https://example.org/cat.png", options); });
  expect_error(ErrorKind::not_found, "no such file", [&] { load_image("", options); });
  expect_error(ErrorKind::not_found, "no such file", [&] { load_video("/nowhere/cat.mp4", options); });
  const TemporaryFile empty({}), text({'h', 'e', 'l', 'l', 'o'});
  expect_error(ErrorKind::corrupt, "empty", [&] { load_image(empty.path(), options); });
  expect_error(ErrorKind::corrupt, "empty", [&] { load_video(empty.path(), options); });
  expect_error(ErrorKind::unsupported, text.path(), [&] { load_image(text.path(), options); });
}

TEST(BadInput, FileUrlsAreOpened) {
  const Picture plain = load_image(kFolder + "png_rgb8.png", MediaOptions{});
  const Picture url = load_image("file://" + kFolder + "png_rgb8.png", MediaOptions{});
  const Picture escaped = load_image("file://" + kFolder + "png%5Frgb8.png", MediaOptions{});
  EXPECT_EQ(plain.patches.size(), url.patches.size());
  EXPECT_EQ(plain.patches.size(), escaped.patches.size());
}

TEST(BadInput, DataUrlsAreDecodedStrictly) {
  // A white pixel.
  const std::string good =
      "data:image/"
      "png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJg"
      "gg==";
  EXPECT_EQ(decode_image(decode_data_url(good).span(), {}).rgb[0], 255);
  EXPECT_EQ(decode_data_url(good.substr(0, good.size() - 2)).size(),
            decode_data_url(good).size());  // unpadded
  for (const std::string& bad :
       {std::string("data:image/png;base64"), std::string("data:image/png,abcd"),
        std::string("data:image/png;base64,"), std::string("data:image/png;base64,ab*d"),
        std::string("data:image/png;base64,abcde"), std::string("data:image/png;base64,ab==cd"),
        std::string("data:image/png;base64,ab=")}) {
    expect_error(ErrorKind::corrupt, "data:", [&] { load_image(bad, MediaOptions{}); });
  }
  expect_error(ErrorKind::corrupt, "truncated", [&] { load_image(good.substr(0, 80), MediaOptions{}); });
  expect_error(ErrorKind::unsupported, "not a JPEG",
               [&] { load_image("data:image/png;base64,aGVsbG8=", {}); });
}

TEST(BadInput, OptionsOutOfRangeAreNamed) {
  MediaOptions options;
  options.patch_size = 0;
  expect_error(ErrorKind::invalid_argument, "patch_size",
               [&] { load_image(kFolder + "png_rgb8.png", options); });
  options = {};
  options.min_pixels = options.max_pixels + 1;
  expect_error(ErrorKind::invalid_argument, "min_pixels",
               [&] { load_image(kFolder + "png_rgb8.png", options); });
  options = {};
  options.std = {1, 0, 1};
  expect_error(ErrorKind::invalid_argument, "std", [&] { load_image(kFolder + "png_rgb8.png", options); });
  options = {};
  options.mean = {1};
  expect_error(ErrorKind::invalid_argument, "image_mean",
               [&] { load_image(kFolder + "png_rgb8.png", options); });
  options = {};
  const std::vector<std::string> frames{kFolder + "frame_list_0.png", kFolder + "frame_list_1.png"};
  for (const double fps : {0.0, -1.0, 1e-20, 1e9}) {
    options.fps = fps;
    expect_error(ErrorKind::invalid_argument, "fps",
                 [&] { load_video(kFolder + "video_25fps.mp4", options); });
    expect_error(ErrorKind::invalid_argument, "fps", [&] { load_frames(frames, options); });
  }
  options = {};
  options.video_min_pixels = 100'000;
  options.processor_max_pixels = 50'176;
  expect_error(ErrorKind::invalid_argument, "allows it 50176", [&] { load_frames(frames, options); });
  options = {};
  options.video_max_pixels = 784;
  expect_error(ErrorKind::invalid_argument, "at most 784",
               [&] { load_video(kFolder + "video_25fps.mp4", options); });
}

TEST(BadInput, VideosThatAreNoneAreNamed) {
  const MediaOptions options;
  expect_error(ErrorKind::invalid_argument, "no video stream",
               [&] { load_video(kFolder + "audio_only.mp4", options); });
  expect_error(ErrorKind::corrupt, "jpeg_444.jpg", [&] { load_video(kFolder + "jpeg_444.jpg", options); });
  const TemporaryFile playlist({'#', 'E', 'X', 'T', 'M', '3', 'U', '\n', 'a', '.', 't', 's', '\n'}, ".m3u8");
  expect_error(ErrorKind::corrupt, "cannot be read", [&] { load_video(playlist.path(), options); });
  expect_error(ErrorKind::invalid_argument, "no frames", [&] { load_frames({}, options); });
  const std::vector<std::string> sizes{kFolder + "frame_list_0.png", kFolder + "png_exif6.png"};
  expect_error(ErrorKind::invalid_argument, "png_exif6.png", [&] { load_frames(sizes, options); });
}

TEST(BadInput, ASingleFrameIsNoVideo) {
  expect_error(ErrorKind::invalid_argument, "1 frame",
               [] { load_video(kFolder + "gif_plain.gif", MediaOptions{}); });
}

TEST(BadInput, TruncatedVideosAreErrors) {
  MediaOptions options;
  options.video_min_pixels = 784;
  for (const char* name : {"video_ntsc.mp4", "video_25fps.mp4", "video_mpeg4.avi"}) {
    const auto whole = file_bytes(kFolder + name);
    for (size_t part = 0; part < 20; ++part) {
      const auto end = whole.begin() + static_cast<std::ptrdiff_t>(whole.size() * part / 20 + 1);
      const TemporaryFile cut({whole.begin(), end}, fs::path(name).extension());
      EXPECT_THROW(load_video(cut.path(), options), Error) << name << " cut to " << part << "/20";
    }
  }
}

TEST(BadInput, DamagedVideosNeverCrash) {
  uint64_t random = 1442695040888963407;
  MediaOptions options;
  options.video_min_pixels = 784;
  options.pixels_decoded_max = 1 << 15;
  options.max_frames = 4;
  for (const char* name : {"video_ntsc.mp4", "video_mpeg4.avi", "video_vp9.webm", "video.ts"}) {
    const auto whole = file_bytes(kFolder + name);
    for (int round = 0; round < 12; ++round) {
      auto bytes = whole;
      for (int i = 0; i < 8; ++i) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        bytes[(random >> 20) % (round % 2 ? 600 : bytes.size())] = static_cast<uint8_t>(random);
      }
      const TemporaryFile damaged(bytes);
      try {
        EXPECT_GT(load_video(damaged.path(), options).patches.size(), 0);
      } catch (const Error&) {
      }
    }
  }
}

}  // namespace
}  // namespace fovea
