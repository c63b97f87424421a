#include "checkpoint/preprocessor_config.h"

#include <algorithm>
#include <optional>
#include <system_error>

#include "base/error.h"
#include "checkpoint/config.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxPixels = int64_t{1} << 40;

constexpr const char* kImageProcessor = "image_processor";
constexpr const char* kVideoProcessor = "video_processor";

struct PixelRange {
  std::optional<int64_t> min, max;
};

// "size" in newer files holds what min_pixels and max_pixels hold in the released ones; the latter win when
// stated, as in transformers' (fast) processor.
PixelRange read_limits(JsonFields& fields, const std::string& where) {
  PixelRange range;
  const auto read = [](JsonFields& from, const char* field, std::optional<int64_t>& value) {
    if (from.has(field)) value = from.integer(field, 0, 1, kMaxPixels);
  };
  if (const nlohmann::json* size = fields.get("size")) {
    JsonFields limits(*size, where + ": size");
    read(limits, "shortest_edge", range.min);
    read(limits, "longest_edge", range.max);
    read(limits, "min_pixels", range.min);
    read(limits, "max_pixels", range.max);
    limits.refuse_the_rest();
  }
  read(fields, "min_pixels", range.min);
  read(fields, "max_pixels", range.max);
  return range;
}

void check_range(int64_t min, int64_t max, const std::string& where) {
  if (min <= max) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{}: min_pixels {} exceeds max_pixels {}", where, min, max),
              "correct one of the two");
}

void read_channels(JsonFields& fields, const std::string& file_name, PreprocessorConfig& config) {
  config.rescale_factor = fields.number("rescale_factor", config.rescale_factor, 1e-9, 1e9);
  config.image_mean = fields.numbers("image_mean", config.image_mean, -1e6, 1e6);
  config.image_std = fields.numbers("image_std", config.image_std, 1e-6, 1e6);
  if (config.image_mean.size() != 3 || config.image_std.size() != 3) {
    throw Error(ErrorKind::invalid_argument, file_name + ": image_mean and image_std need three numbers each",
                "get the file again from its source");
  }
}

// What both kinds of processor do, but for the limits and do_resize.
void read_steps(JsonFields& fields, const std::string& where, PreprocessorConfig& config) {
  read_channels(fields, where, config);
  config.patch_size = fields.integer("patch_size", config.patch_size, 1, 1024);
  config.temporal_patch_size = fields.integer("temporal_patch_size", config.temporal_patch_size, 1, 64);
  config.merge_size = fields.integer("merge_size", config.merge_size, 1, 16);
  for (const char* step : {"do_rescale", "do_normalize", "do_convert_rgb"}) fields.require(step, true);
  fields.require("resample", 3);  // PIL's number of bicubic
  fields.require("do_center_crop", false);
  fields.require("do_pad", false);
  fields.ignore({"image_processor_type", "feature_extractor_type", "processor_class", "_valid_kwargs_names",
                 "_valid_processor_keys", "default_to_square", "data_format", "input_data_format", "device",
                 "return_tensors", "disable_grouping", "crop_size", "pad_size", "image_seq_length",
                 "use_fast", "do_resize", "do_sample_frames", "fps", "min_frames", "max_frames", "num_frames",
                 "video_processor_type", "size_divisor", "model_input_names", "return_metadata",
                 "video_metadata",
                 // qwen_vl_utils' limit, which holds here whatever this says
                 "cap_pixels_per_frame", "max_video_tokens"});
  fields.warn_of_the_rest(config.warnings);
}

// transformers 5 saves one processor_config.json with both processors inside.
struct Part {
  const nlohmann::json& object;
  std::string where;
};

Part part_of(const nlohmann::json& file, const char* name, const std::string& file_name) {
  const auto inner = file.find(name);
  if (inner == file.end()) return {file, file_name};
  return {*inner, fmt::format("{}: {}", file_name, name)};
}

template <typename Value>
void agree(const std::string& where, const char* field, Value here, const char* other, Value there) {
  if (here == there) return;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{}: {} is {}, {} says {}", where, field, here, other, there),
              "take both from the same checkpoint");
}

// The text of a file of the folder; nothing when it is not there.
std::optional<std::string> text_of(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return std::nullopt;
  return read_json_text(file);
}

bool has_part(const std::optional<std::string>& text, const char* name, const fs::path& file) {
  return text && parse_json_object(*text, file.string()).contains(name);
}

}  // namespace

PreprocessorConfig parse_preprocessor_config(std::string_view json, const std::string& file_name) {
  const nlohmann::json file = parse_json_object(json, file_name);
  const auto [object, where] = part_of(file, kImageProcessor, file_name);
  JsonFields fields(object, where);
  PreprocessorConfig config;
  const PixelRange range = read_limits(fields, where);
  config.min_pixels = range.min.value_or(config.min_pixels);
  config.max_pixels = range.max.value_or(config.max_pixels);
  check_range(config.min_pixels, config.max_pixels, where);
  fields.require("do_resize", true);
  read_steps(fields, where, config);
  return config;
}

void parse_video_processor(std::string_view json, const std::string& file_name, PreprocessorConfig& config) {
  const nlohmann::json file = parse_json_object(json, file_name);
  const auto [object, where] = part_of(file, kVideoProcessor, file_name);
  JsonFields fields(object, where);
  const PixelRange range = read_limits(fields, where);
  if (range.min && range.max) check_range(*range.min, *range.max, where);
  // A processor that does not resize leaves frames as qwen_vl_utils makes them.
  if (fields.boolean("do_resize", true)) {
    config.video_min_pixels = range.min;
    config.video_max_pixels = range.max;
  }
  if (fields.boolean("do_sample_frames", false)) {
    config.warnings.push_back(fmt::format(
        "{} chooses frames itself (do_sample_frames), fovea as qwen_vl_utils does: 2 a second, or "
        "--fps",
        where));
  }
  PreprocessorConfig own;  // what is not stated has transformers' defaults here, too
  read_steps(fields, where, own);
  for (const std::string& warning : own.warnings) {
    const auto said = std::find(config.warnings.begin(), config.warnings.end(), warning);
    if (said == config.warnings.end()) config.warnings.push_back(warning);  // one file may serve both
  }
  const char* images = "the image processor";
  agree(where, "patch_size", own.patch_size, images, config.patch_size);
  agree(where, "temporal_patch_size", own.temporal_patch_size, images, config.temporal_patch_size);
  agree(where, "merge_size", own.merge_size, images, config.merge_size);
  agree(where, "rescale_factor", own.rescale_factor, images, config.rescale_factor);
  // In the f32 that pixels are computed in: some files state the digits of an f32, others those they came
  // from.
  const auto f32 = [](double value) { return static_cast<float>(value); };
  for (size_t c = 0; c < 3; ++c) {
    agree(where, "image_mean", f32(own.image_mean[c]), images, f32(config.image_mean[c]));
    agree(where, "image_std", f32(own.image_std[c]), images, f32(config.image_std[c]));
  }
}

PreprocessorConfig read_preprocessor(const fs::path& dir, const VisionConfig& vision) {
  const fs::path both = dir / "processor_config.json", image = dir / "preprocessor_config.json",
                 video = dir / "video_preprocessor_config.json";
  const std::optional<std::string> both_text = text_of(both), image_text = text_of(image),
                                   video_text = text_of(video);
  PreprocessorConfig config;
  fs::path from;
  if (has_part(both_text, kImageProcessor, both)) {
    config = parse_preprocessor_config(*both_text, (from = both).string());
  } else if (image_text) {
    config = parse_preprocessor_config(*image_text, (from = image).string());
  } else {
    config.patch_size = vision.patch_size;
    config.temporal_patch_size = vision.temporal_patch_size;
    config.merge_size = vision.spatial_merge_size;
    config.warnings.push_back(
        fmt::format("{} has no preprocessor_config.json: images get from {} to {} pixels, the defaults of "
                    "transformers; the published file allows 12845056",
                    dir.string(), config.min_pixels, config.max_pixels));
  }
  if (!from.empty()) {
    const std::string where = from.string();
    agree(where, "patch_size", config.patch_size, "config.json", vision.patch_size);
    agree(where, "temporal_patch_size", config.temporal_patch_size, "config.json",
          vision.temporal_patch_size);
    agree(where, "merge_size", config.merge_size, "config.json", vision.spatial_merge_size);
  }
  if (has_part(both_text, kVideoProcessor, both)) {
    parse_video_processor(*both_text, both.string(), config);
  } else if (video_text) {
    parse_video_processor(*video_text, video.string(), config);
  } else if (image_text) {
    parse_video_processor(*image_text, image.string(), config);
  }
  return config;
}

}  // namespace fovea
