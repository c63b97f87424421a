#include <algorithm>
#include <cmath>
#include <utility>

#include "media/decode.h"
#include "media/frame_sampling.h"
#include "media/media.h"
#include "media/patches.h"
#include "media/resample.h"
#include "media/smart_resize.h"
#include "media/source.h"
#include "media/video.h"

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

void check_options(const MediaOptions& options) {
  const auto within = [](const char* name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is {}, not between {} and {}", name, value, min, max),
                "correct preprocessor_config.json or the option");
  };
  within("patch_size", options.patch_size, 1, 1024);
  within("temporal_patch_size", options.temporal_patch_size, 1, 64);
  within("merge_size", options.merge_size, 1, 64);
  within("min_pixels", options.min_pixels, 0, int64_t{1} << 32);
  within("max_pixels", options.max_pixels, 1, int64_t{1} << 32);
  if (options.min_pixels > options.max_pixels) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("min_pixels {} exceeds max_pixels {}", options.min_pixels, options.max_pixels),
                "lower --min-pixels or raise --max-pixels (the one not given comes from "
                "preprocessor_config.json)");
  }
  within("min_frames", options.min_frames, 0, options.max_frames);
  within("max_frames", options.max_frames, 2, 1 << 20);
  if (!std::isfinite(options.fps) || options.fps <= 0) {
    throw Error(ErrorKind::invalid_argument, fmt::format("fps is {}", options.fps), "give a positive number");
  }
}

Bicubic arithmetic_of(MediaOptions::Resize resize) {
  switch (resize) {
    case MediaOptions::Resize::pil:
      return Bicubic::pil;
    case MediaOptions::Resize::pil_12:
      return Bicubic::pil_12;
    case MediaOptions::Resize::torchvision:
      return Bicubic::torch_u8;
  }
  return Bicubic::pil;
}

ImageSize factor_resize(ImageSize size, PixelLimits limits, const MediaOptions& options) {
  return smart_resize(size, options.patch_size * options.merge_size, limits);
}

// A picture under construction: frames arrive one by one and go straight into its patches.
class PictureBuilder {
 public:
  PictureBuilder(const std::string& source, const MediaOptions& options)
      : options_(options), normaliser_(options) {
    picture_.source = source;
  }

  // Everything known before the first frame's pixels are needed.
  void begin(ImageSize original, ImageSize resized, int64_t frames) {
    picture_.original_height = original.height;
    picture_.original_width = original.width;
    picture_.resized_height = resized.height;
    picture_.resized_width = resized.width;
    picture_.frames = frames;
    picture_.grid = grid_of(resized, frames, options_);
    if (const int64_t tokens = picture_.tokens(options_.merge_size); tokens > options_.tokens_max) {
      throw Error(
          ErrorKind::exhausted,
          fmt::format("{} x {} pixels and {} frames make {} tokens, the model's context has room for {}",
                      resized.width, resized.height, frames, tokens, options_.tokens_max),
          "lower --max-pixels or --min-pixels (one token is 28 x 28 pixels), or give fewer items");
    }
    picture_.patches.resize(picture_.grid.patches() * 3 * options_.temporal_patch_size * options_.patch_size *
                            options_.patch_size);
  }
  ImageSize resized() const { return {picture_.resized_height, picture_.resized_width}; }

  // The last frame is repeated until the temporal patches are full.
  void add(const Image& image, int64_t frame) {
    const int64_t places = picture_.grid.t * options_.temporal_patch_size;
    const int64_t end = frame + 1 == picture_.frames ? places : frame + 1;
    write_frames(image, frame, end - frame, picture_.grid, options_, normaliser_, picture_.patches.span());
  }

  Picture finish_image() { return std::move(picture_); }
  Picture finish_video(double sampled_fps) {
    picture_.is_video = true;
    picture_.second_per_grid = static_cast<double>(options_.temporal_patch_size) / sampled_fps;
    return std::move(picture_);
  }

 private:
  const MediaOptions& options_;
  Normaliser normaliser_;
  Picture picture_;
};

Image load_upright(const std::string& source, const MediaOptions& options) {
  const Buffer<uint8_t> bytes = read_source(source);
  return decode_image(bytes.span(), options);
}

// qwen_vl_utils treats each listed frame as an image first, with an image's limits unless the user gave some.
PixelLimits listed_frame_limits(const MediaOptions& options) {
  constexpr double kTokensMin = 4, kTokensMax = 16384;
  const double factor = static_cast<double>(options.patch_size * options.merge_size), token = factor * factor;
  return {options.video_min_pixels ? static_cast<double>(*options.video_min_pixels) : kTokensMin * token,
          options.video_max_pixels ? static_cast<double>(*options.video_max_pixels) : kTokensMax * token};
}

}  // namespace

Picture load_image(const std::string& source, const MediaOptions& options) {
  check_options(options);
  return naming(source, [&] {
    const Image image = load_upright(source, options);
    const PixelLimits limits{static_cast<double>(options.min_pixels),
                             static_cast<double>(options.max_pixels)};
    PictureBuilder picture(source, options);
    picture.begin(image.size, factor_resize(image.size, limits, options), 1);
    picture.add(resample_bicubic(image, picture.resized(), arithmetic_of(options.resize)), 0);
    return picture.finish_image();
  });
}

Picture load_video(const std::string& source, const MediaOptions& options) {
  check_options(options);
  return naming(source, [&] {
    VideoReader reader(source, options);
    const double fps = reader.fps();
    int64_t total = reader.count_frames();
    // Containers may count frames that are never shown; sampling is then repeated with what decoding found.
    for (int attempt = 0; attempt < 2; ++attempt) {
      const auto indices = sample_frames(total, fps, options);
      const int64_t count = static_cast<int64_t>(indices.size());
      const PixelLimits limits = frame_limits(count, options);
      PictureBuilder picture(source, options);
      const int64_t decoded = reader.read(indices, [&](int64_t k, const Image& image) {
        if (k == 0) picture.begin(image.size, factor_resize(image.size, limits, options), count);
        picture.add(resample_bicubic(image, picture.resized(), Bicubic::torch_f32), k);
      });
      if (decoded > indices.back()) {
        return picture.finish_video(static_cast<double>(count) / static_cast<double>(total) * fps);
      }
      total = decoded;
    }
    throw Error(ErrorKind::corrupt, "the video decodes to another number of frames each time",
                "re-encode the video");
  });
}

Picture load_frames(const std::vector<std::string>& sources, const MediaOptions& options) {
  check_options(options);
  if (sources.empty()) {
    throw Error(ErrorKind::invalid_argument, "a video of no frames", "list at least one picture");
  }
  const int64_t count = static_cast<int64_t>(sources.size());
  // The reference counts the frames after padding them to an even number.
  const PixelLimits limits = frame_limits(count + count % 2, options);
  PictureBuilder picture(sources[0], options);
  ImageSize listed;  // what each frame must be resized to as an image
  for (int64_t k = 0; k < count; ++k) {
    const std::string& source = sources[static_cast<size_t>(k)];
    naming(source, [&] {
      const Image image = load_upright(source, options);
      const ImageSize size = factor_resize(image.size, listed_frame_limits(options), options);
      if (k == 0) {
        listed = size;
        picture.begin(image.size, factor_resize(size, limits, options), count);
      } else if (size != listed) {
        throw Error(ErrorKind::invalid_argument,
                    fmt::format("this frame of {} x {} pixels does not fit the first frame's size",
                                image.size.width, image.size.height),
                    "give frames of one size");
      }
      const Image resized = resample_bicubic(image, listed, arithmetic_of(options.resize));
      picture.add(resample_bicubic(resized, picture.resized(), Bicubic::torch_f32), k);
    });
  }
  return picture.finish_video(options.fps);
}

}  // namespace fovea
