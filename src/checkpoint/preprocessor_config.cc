#include "base/error.h"
#include "checkpoint/config.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

constexpr int64_t kMaxPixels = int64_t{1} << 40;

// "size" in newer files holds what min_pixels and max_pixels hold in the released ones; the latter win when
// stated, as in transformers' (fast) processor.
void read_limits(JsonFields& fields, const std::string& file_name, PreprocessorConfig& config) {
  if (const nlohmann::json* size = fields.get("size")) {
    JsonFields limits(*size, file_name + ": size");
    config.min_pixels = limits.integer("shortest_edge", config.min_pixels, 1, kMaxPixels);
    config.max_pixels = limits.integer("longest_edge", config.max_pixels, 1, kMaxPixels);
    config.min_pixels = limits.integer("min_pixels", config.min_pixels, 1, kMaxPixels);
    config.max_pixels = limits.integer("max_pixels", config.max_pixels, 1, kMaxPixels);
    limits.refuse_the_rest();
  }
  config.min_pixels = fields.integer("min_pixels", config.min_pixels, 1, kMaxPixels);
  config.max_pixels = fields.integer("max_pixels", config.max_pixels, 1, kMaxPixels);
  if (config.min_pixels > config.max_pixels) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{}: min_pixels {} exceeds max_pixels {}", file_name, config.min_pixels,
                            config.max_pixels),
                "correct one of the two");
  }
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

}  // namespace

PreprocessorConfig parse_preprocessor_config(std::string_view json, const std::string& file_name) {
  const nlohmann::json object = parse_json_object(json, file_name);
  // transformers 5 saves one processor_config.json with the image part inside.
  const auto inner = object.find("image_processor");
  const bool nested = inner != object.end();
  const std::string where = nested ? file_name + ": image_processor" : file_name;
  JsonFields fields(nested ? *inner : object, where);

  PreprocessorConfig config;
  read_limits(fields, where, config);
  read_channels(fields, where, config);
  config.patch_size = fields.integer("patch_size", 14, 1, 1024);
  config.temporal_patch_size = fields.integer("temporal_patch_size", 2, 1, 64);
  config.merge_size = fields.integer("merge_size", 2, 1, 16);
  for (const char* step : {"do_resize", "do_rescale", "do_normalize", "do_convert_rgb"})
    fields.require(step, true);
  fields.require("resample", 3);  // PIL's number of bicubic
  fields.require("do_center_crop", false);
  fields.require("do_pad", false);
  fields.ignore({"image_processor_type",
                 "feature_extractor_type",
                 "processor_class",
                 "_valid_kwargs_names",
                 "_valid_processor_keys",
                 "default_to_square",
                 "data_format",
                 "input_data_format",
                 "device",
                 "return_tensors",
                 "disable_grouping",
                 "crop_size",
                 "pad_size",
                 "image_seq_length",
                 "use_fast",
                 "do_sample_frames",
                 "fps",
                 "min_frames",
                 "max_frames",
                 "num_frames",
                 "video_processor_type",
                 "size_divisor",
                 "model_input_names"});
  fields.refuse_the_rest();
  return config;
}

}  // namespace fovea
