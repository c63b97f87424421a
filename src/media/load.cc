#include <utility>

#include "media/decode.h"
#include "media/media.h"
#include "media/patches.h"
#include "media/resample.h"
#include "media/smart_resize.h"
#include "media/source.h"

namespace fovea {
namespace {

// Runs `work`; its errors get the name of the source in front.
template <typename Work>
auto naming(const std::string& source, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    constexpr size_t kShown = 200;  // a data: URL can be megabytes long
    const std::string name = is_data_url(source) ? source.substr(0, 40) + "..." : source.substr(0, kShown);
    throw Error(error.kind(), name + ": " + error.message(), error.remedy());
  }
}

int64_t patch_columns(const MediaOptions& options) {
  return 3 * options.temporal_patch_size * options.patch_size * options.patch_size;
}

void check_options(const MediaOptions& options) {
  const auto within = [](const char* name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return;
    throw Error(ErrorKind::invalid_argument, fmt::format("{} is {}, not between {} and {}", name, value, min, max),
                "correct preprocessor_config.json or the option");
  };
  within("patch_size", options.patch_size, 1, 1024);
  within("temporal_patch_size", options.temporal_patch_size, 1, 64);
  within("merge_size", options.merge_size, 1, 64);
  within("min_pixels", options.min_pixels, 0, options.max_pixels);
  within("max_pixels", options.max_pixels, 1, int64_t{1} << 32);
}

Bicubic arithmetic_of(MediaOptions::Resize resize) {
  switch (resize) {
    case MediaOptions::Resize::pil: return Bicubic::pil;
    case MediaOptions::Resize::pil_12: return Bicubic::pil_12;
    case MediaOptions::Resize::torchvision: return Bicubic::torch_u8;
  }
  return Bicubic::pil;
}

Picture still_picture(const std::string& source, const Image& image, const MediaOptions& options) {
  const ImageSize size = smart_resize(
      image.size, options.patch_size * options.merge_size,
      {static_cast<double>(options.min_pixels), static_cast<double>(options.max_pixels)});
  const Image resized = resample_bicubic(image, size, arithmetic_of(options.resize));
  Picture picture;
  picture.source = source;
  picture.original_height = image.size.height;
  picture.original_width = image.size.width;
  picture.resized_height = size.height;
  picture.resized_width = size.width;
  picture.grid = grid_of(size, 1, options);
  picture.patches.resize(picture.grid.patches() * patch_columns(options));
  const Normaliser normaliser(options);
  for (int64_t frame = 0; frame < options.temporal_patch_size; ++frame) {
    write_frame(resized, frame, picture.grid, options, normaliser, picture.patches.span());
  }
  return picture;
}

}  // namespace

Picture load_image(const std::string& source, const MediaOptions& options) {
  check_options(options);
  return naming(source, [&] {
    const Buffer<uint8_t> bytes = read_source(source);
    return still_picture(source, decode_image(bytes.span(), options), options);
  });
}

}  // namespace fovea
