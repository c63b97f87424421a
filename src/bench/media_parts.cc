#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/output_file.h"
#include "base/scratch_file.h"
#include "bench/jpeg_photo.h"
#include "bench/parts.h"
#include "media/decode.h"
#include "media/media.h"
#include "media/source.h"

namespace fovea::bench {

namespace {

// 12 megapixels, the size of a telephone's photograph.
constexpr int64_t kHeight = 3000, kWidth = 4000;

struct TemporaryFolder {
  TemporaryFolder() {
    std::string name = (temporary_folder() / "fovea-bench-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw Error(ErrorKind::io, fmt::format("{}: the folder cannot be made", name),
                  "set TMPDIR to a folder that can be written to");
    }
    path = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path path;
};

// A JPEG file that exists as long as this object.
class PhotoFile {
 public:
  PhotoFile() {
    const Buffer<uint8_t> bytes = jpeg_photo(kHeight, kWidth);
    OutputFile file(path(), bytes.size());
    file.append(bytes.data(), bytes.size());
    file.finish();
  }
  std::string path() const { return (folder_.path / "photo.jpg").string(); }
  Image decoded() const { return decode_image(read_source(path()).span(), MediaOptions{}); }
  Picture preprocessed() const { return load_image(path(), MediaOptions{}); }

 private:
  TemporaryFolder folder_;
};

// Antialiased bicubic weights of one output sample, straight from their definition.
struct Sample {
  int64_t first = 0;
  std::vector<double> weights;

  Sample(int64_t size_in, int64_t size_out, int64_t at) {
    const double scale = static_cast<double>(size_in) / static_cast<double>(size_out),
                 centre = (static_cast<double>(at) + 0.5) * scale;
    double total = 0;
    for (int64_t i = 0; i < size_in; ++i) {
      const double weight = keys((static_cast<double>(i) + 0.5 - centre) / scale);
      if (weight == 0) continue;
      if (weights.empty()) first = i;
      weights.push_back(weight);
      total += weight;
    }
    for (double& weight : weights) weight /= total;
  }
  static double keys(double x) {
    x = std::fabs(x);
    if (x < 1) return 1.5 * x * x * x - 2.5 * x * x + 1;
    return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
  }
};

// Pixel (y, x), resized in exact arithmetic and normalised.
double expected(const Image& image, const Picture& picture, int64_t y, int64_t x, int64_t c) {
  const Sample down(kHeight, picture.resized_height, y), across(kWidth, picture.resized_width, x);
  double sum = 0;
  for (int64_t i = 0; i < std::ssize(down.weights); ++i) {
    for (int64_t k = 0; k < std::ssize(across.weights); ++k) {
      const double weight = down.weights[static_cast<size_t>(i)] * across.weights[static_cast<size_t>(k)];
      sum += weight * image.row(down.first + i)[(across.first + k) * 3 + c];
    }
  }
  const MediaOptions options;
  const auto channel = static_cast<size_t>(c);
  return (sum / 255 - options.mean[channel]) / options.std[channel];
}

// The corners and the middle, in all channels and both frames. 8 bits after each pass: half a level from the
// second and, times the sum of absolute weights (below 1.3), half a level from the first.
void check(const Image& image, const Picture& picture) {
  const MediaOptions options;
  const int64_t patch = options.patch_size, block = 2 * patch;
  const int64_t bottom = picture.resized_height - 1, right = picture.resized_width - 1;
  for (const auto& [y, x] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 0}, {0, right}, {bottom, 0}, {bottom, right}, {bottom / 2, right / 2}}) {
    const int64_t index =
        (y / block * (picture.grid.w / 2) + x / block) * 4 + y % block / patch * 2 + x % block / patch;
    for (int64_t i = 0; i < 6; ++i) {  // channel, then frame
      const float actual = picture.patches[((index * 6 + i) * patch + y % patch) * patch + x % patch];
      const double exact = expected(image, picture, y, x, i / 2);
      const double limit = (0.5 + 0.5 * 1.3) / 255 / options.std[static_cast<size_t>(i / 2)];
      if (std::fabs(actual - exact) <= limit) continue;
      throw Error(ErrorKind::numeric,
                  fmt::format("preprocess.12mp: pixel ({}, {}) is {}, not {}", y, x, actual, exact),
                  "report this with the output of lscpu");
    }
  }
}

// Resampling, normalising and the order of the patches: the whole of preprocessing less the decoding, whose
// pixels are the bytes that must be read.
Work preprocess_work() {
  const auto photo = std::make_shared<PhotoFile>();
  check(photo->decoded(), photo->preprocessed());
  return {.name = "preprocess.12mp",
          .bound = Bound::read,
          .amount = 3.0 * kHeight * kWidth,
          .unit = "GB/s",
          .call = [photo] { photo->preprocessed(); },
          .excluded = [photo] { photo->decoded(); }};
}

}  // namespace

std::vector<Part> media_parts() { return {{"preprocess.12mp", preprocess_work}}; }

}  // namespace fovea::bench
