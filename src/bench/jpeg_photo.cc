#include "bench/jpeg_photo.h"

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <vector>
// libjpeg's header needs size_t and FILE declared before it.
#include <jpeglib.h>

#include "base/splitmix64.h"

namespace fovea::bench {

namespace {

// One channel of one row or column: a wave of amplitude 30 around 64.
std::vector<int> wave(int64_t count, double period, double phase) {
  std::vector<int> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(64 + static_cast<int>(30 * std::sin(static_cast<double>(i) / period + phase)));
  return values;
}

Buffer<uint8_t> pixels(int64_t height, int64_t width) {
  Buffer<uint8_t> rgb(height * width * 3);
  SplitMix64 random(1);
  for (int64_t c = 0; c < 3; ++c) {
    const auto across = wave(width, 30 + 40 * static_cast<double>(c), 0);
    const auto down = wave(height, 90 - 20 * static_cast<double>(c), static_cast<double>(c));
    for (int64_t i = 0; i < height * width; ++i) {
      const int noise = static_cast<int>(random.bits() >> 60) - 8;
      rgb[i * 3 + c] = static_cast<uint8_t>(across[i % width] + down[i / width] + noise);
    }
  }
  return rgb;
}

// Errors leave libjpeg by longjmp; what stands between owns nothing with a destructor.
struct Encoder {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  std::jmp_buf escape;
  unsigned char* bytes;
  unsigned long size;
};

void leave(j_common_ptr info) { std::longjmp(static_cast<Encoder*>(info->client_data)->escape, 1); }

[[gnu::noinline]] bool encode(Encoder& encoder, uint8_t* rgb, int64_t height, int64_t width) {
  jpeg_compress_struct& info = encoder.info;
  info.err = jpeg_std_error(&encoder.errors);
  encoder.errors.error_exit = leave;
  info.client_data = &encoder;
  if (setjmp(encoder.escape)) return false;
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, &encoder.bytes, &encoder.size);
  info.image_height = static_cast<JDIMENSION>(height);
  info.image_width = static_cast<JDIMENSION>(width);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 90, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = rgb + int64_t{info.next_scanline} * width * 3;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  return true;
}

}  // namespace

Buffer<uint8_t> jpeg_photo(int64_t height, int64_t width) {
  Buffer<uint8_t> rgb = pixels(height, width);
  Encoder encoder{};
  const bool fine = encode(encoder, rgb.data(), height, width);
  jpeg_destroy_compress(&encoder.info);
  Buffer<uint8_t> file;
  if (fine) {
    file.resize(static_cast<int64_t>(encoder.size));
    std::copy_n(encoder.bytes, encoder.size, file.data());
  }
  std::free(encoder.bytes);
  if (fine) return file;
  throw Error(ErrorKind::exhausted, fmt::format("cannot encode a JPEG of {} x {} pixels", width, height),
              "free some memory");
}

}  // namespace fovea::bench
