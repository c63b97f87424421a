#include <algorithm>
#include <cmath>
#include <utility>

#include "base/frame_rate.h"
#include "base/freed_memory.h"
#include "media/decode.h"
#include "media/frame_sampling.h"
#include "media/geometry.h"
#include "media/media.h"
#include "media/patches.h"
#include "media/resample.h"
#include "media/source.h"
#include "media/video.h"

namespace fovea {
namespace {

std::string name_of(const std::string& source, const MediaOptions& options) {
  const std::string name = shown_source(source);
  if (options.pages == 1) return name;
  return fmt::format("{}, page {} of {}", name, options.page + 1, options.pages);
}

// Runs `work`; its errors get the name of the source in front.
template <typename Work>
auto naming(const std::string& name, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    constexpr size_t kShown = 200;
    const size_t hidden = name.size() - std::min(name.size(), kShown);
    throw Error(error.kind(), (hidden > 0 ? "..." : "") + name.substr(hidden) + ": " + error.message(),
                error.remedy());
  }
}

void check_options(const MediaOptions& options) {
  const auto within = [](const char* name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return;
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is {}, not between {} and {}", name, value, min, max),
                "correct the checkpoint's processor file or the option");
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
  const int64_t frame_min = options.video_min_pixels.value_or(options.processor_min_pixels.value_or(0));
  if (options.processor_max_pixels && frame_min > *options.processor_max_pixels) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("a video frame must have at least {} pixels, and the checkpoint's processor file "
                            "allows it {}",
                            frame_min, *options.processor_max_pixels),
                "lower --min-pixels or give --max-pixels, too");
  }
  within("min_frames", options.min_frames, 0, options.max_frames);
  within("max_frames", options.max_frames, 2, 1 << 20);
  if (!is_frame_rate(options.fps)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("fps is {}, not between {} and {}", options.fps, kFrameRateMin, kFrameRateMax),
                "give frames per second, such as 2");
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

// What is made of a picture: sizes and grid alone, or also its patches.
enum class Extent { geometry, patches };

// A picture under construction: frames arrive one by one and go straight into its patches.
class PictureBuilder {
 public:
  PictureBuilder(const std::string& source, const MediaOptions& options, Extent extent)
      : options_(options), normaliser_(options), extent_(extent) {
    picture_.source = name_of(source, options);
  }

  void make_video(int64_t frames, bool listed) {
    picture_.is_video = true;
    picture_.listed = listed;
    picture_.frames = frames;
  }

  // Everything known before the first frame's pixels are needed.
  void begin(ImageSize original) {
    picture_.original_height = original.height;
    picture_.original_width = original.width;
    set_geometry(picture_, options_);
    if (extent_ == Extent::geometry) return;
    if (const int64_t tokens = picture_.tokens(options_.merge_size); tokens > options_.tokens_max) {
      throw Error(
          ErrorKind::exhausted,
          fmt::format("{} x {} pixels and {} frames make {} tokens, the model's context has room for {}",
                      picture_.resized_width, picture_.resized_height, picture_.frames, tokens,
                      options_.tokens_max),
          "lower --max-pixels or --min-pixels (one token is 28 x 28 pixels), or give fewer items");
    }
    picture_.patches.resize(picture_.grid.patches() * 3 * options_.temporal_patch_size * options_.patch_size *
                            options_.patch_size);
  }

  // Resamples a frame into its place. The last frame is repeated until the temporal patches are full. Where
  // the checkpoint's limits make it smaller or larger than the request's rules, the reference resamples
  // twice, and so does this. (Between the two it keeps a video's frames in 8 bits, as here, but the result of
  // the second in f32, which differs by up to half a step of 1/255.)
  void add(const Image& frame, int64_t index, Bicubic first, Bicubic second) {
    if (extent_ == Extent::geometry) return;
    const ImageSize resized{picture_.resized_height, picture_.resized_width};
    Image image = resample_bicubic(frame, picture_.interim, picture_.interim == resized ? second : first);
    if (image.size != resized) image = resample_bicubic(image, resized, second);
    const int64_t places = picture_.grid.t * options_.temporal_patch_size;
    const int64_t end = index + 1 == picture_.frames ? places : index + 1;
    write_frames(image, index, end - index, picture_.grid, options_, normaliser_, picture_.patches.span());
  }

  Picture finish_image() { return std::move(picture_); }
  Picture finish_video(double sampled_fps) {
    picture_.second_per_grid = static_cast<double>(options_.temporal_patch_size) / sampled_fps;
    return std::move(picture_);
  }

 private:
  const MediaOptions& options_;
  Normaliser normaliser_;
  Extent extent_;
  Picture picture_;
};

constexpr int64_t kLargeFile = 1 << 20;

Image load_upright(const std::string& source, const MediaOptions& options) {
  Image image;
  {
    const Buffer<uint8_t> bytes = read_source(source);
    image = decode_image(bytes.span(), options);
    if (bytes.size() < kLargeFile) return image;
  }
  return_freed_memory();
  return image;
}

Picture read_image(const std::string& source, const MediaOptions& options, Extent extent) {
  check_options(options);
  return naming(name_of(source, options), [&] {
    const Image image = load_upright(source, options);
    PictureBuilder picture(source, options, extent);
    picture.begin(image.size);
    // A size wished for is Pillow's work (qwen_vl_utils), what the processor does is arithmetic_of's.
    const Bicubic arithmetic = arithmetic_of(options.resize);
    picture.add(image, 0, arithmetic == Bicubic::pil_12 ? Bicubic::pil_12 : Bicubic::pil, arithmetic);
    return picture.finish_image();
  });
}

Picture read_video(const std::string& source, const MediaOptions& options, Extent extent) {
  check_options(options);
  return naming(shown_source(source), [&] {
    VideoReader reader(source, options);
    const double fps = reader.fps();
    int64_t total = reader.count_frames();
    // Containers may count frames that are never shown; sampling is then repeated with what decoding found.
    for (int attempt = 0; attempt < 2; ++attempt) {
      auto indices = sample_frames(total, fps, options);
      const int64_t count = static_cast<int64_t>(indices.size());
      PictureBuilder picture(source, options, extent);
      picture.make_video(count, false);
      if (extent == Extent::geometry) indices.resize(1);
      const int64_t decoded = reader.read(indices, [&](int64_t k, const Image& image) {
        if (k == 0) picture.begin(image.size);
        picture.add(image, k, Bicubic::torch_f32, Bicubic::torch_f32);
      });
      if (decoded > indices.back()) {
        const int64_t spread_over = frame_range(total, fps, options).count();
        return picture.finish_video(static_cast<double>(count) / static_cast<double>(spread_over) * fps);
      }
      total = decoded;
    }
    throw Error(ErrorKind::corrupt, "the video decodes to another number of frames each time",
                "re-encode the video");
  });
}

Picture read_frames(const std::vector<std::string>& sources, const MediaOptions& options, Extent extent) {
  check_options(options);
  if (sources.empty()) {
    throw Error(ErrorKind::invalid_argument, "a video of no frames", "list at least one picture");
  }
  const int64_t count = static_cast<int64_t>(sources.size());
  PictureBuilder picture(sources[0], options, extent);
  picture.make_video(count, true);
  ImageSize listed;  // what each frame must be resized to as an image
  for (int64_t k = 0; k < (extent == Extent::geometry ? 1 : count); ++k) {
    const std::string& source = sources[static_cast<size_t>(k)];
    naming(shown_source(source), [&] {
      if (const int64_t pages = count_pages(source); pages > 1) {
        throw Error(ErrorKind::invalid_argument, fmt::format("a frame of {} pages", pages),
                    "give the pages as images, or as files of their own");
      }
      const Image image = load_upright(source, options);
      const ImageSize size = listed_frame_size(image.size, options);
      if (k == 0) {
        listed = size;
        picture.begin(image.size);
      } else if (size != listed) {
        throw Error(ErrorKind::invalid_argument,
                    fmt::format("this frame of {} x {} pixels does not fit the first frame's size",
                                image.size.width, image.size.height),
                    "give frames of one size");
      }
      if (extent == Extent::patches) {
        picture.add(resample_bicubic(image, listed, arithmetic_of(options.resize)), k, Bicubic::torch_f32,
                    Bicubic::torch_f32);
      }
    });
  }
  return picture.finish_video(options.fps);
}

}  // namespace

int64_t count_pages(const std::string& source) {
  if (is_data_url(source)) {
    return naming(shown_source(source), [&] { return pages_in(decode_data_url(source).span()); });
  }
  std::string head;
  try {
    head = head_of_file(source, 8);
  } catch (const Error&) {
    return 1;  // loading it will say what is wrong
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(head.data());
  if (!may_have_pages({bytes, head.size()})) return 1;
  return naming(shown_source(source), [&] { return pages_in(read_source(source).span()); });
}

Picture load_image(const std::string& source, const MediaOptions& options) {
  return read_image(source, options, Extent::patches);
}
Picture load_video(const std::string& source, const MediaOptions& options) {
  return read_video(source, options, Extent::patches);
}
Picture load_frames(const std::vector<std::string>& sources, const MediaOptions& options) {
  return read_frames(sources, options, Extent::patches);
}
Picture measure_image(const std::string& source, const MediaOptions& options) {
  return read_image(source, options, Extent::geometry);
}
Picture measure_video(const std::string& source, const MediaOptions& options) {
  return read_video(source, options, Extent::geometry);
}
Picture measure_frames(const std::vector<std::string>& sources, const MediaOptions& options) {
  return read_frames(sources, options, Extent::geometry);
}

}  // namespace fovea
