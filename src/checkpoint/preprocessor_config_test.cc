// Goal: what a folder's processor files say about pictures and frames is what transformers 5.24 takes from
// them. Method: folders with one, two and three of the files, each with numbers of its own.
#include "checkpoint/preprocessor_config.h"

#include <gtest/gtest.h>

#include "checkpoint/checkpoint_testing.h"

namespace fovea {
namespace {

using testing::expect_error;
using testing::TemporaryFolder;
using testing::write_bytes;

std::string size(int64_t min, int64_t max) {
  return fmt::format(R"("size": {{"shortest_edge": {}, "longest_edge": {}}})", min, max);
}

class ProcessorFiles : public ::testing::Test {
 protected:
  void write(const char* name, const std::string& text) { write_bytes(folder_ / name, text); }
  PreprocessorConfig read() const { return read_preprocessor(folder_.path(), VisionConfig{}); }
  void expect_limits(std::optional<int64_t> min, std::optional<int64_t> max) const {
    const PreprocessorConfig config = read();
    EXPECT_EQ(config.video_min_pixels, min);
    EXPECT_EQ(config.video_max_pixels, max);
  }
  TemporaryFolder folder_;
};

// As transformers 5.24 saves a Qwen2.5-VL processor, the fields it fills with null left out.
const std::string kSavedBy5 = R"({
  "image_processor": {"do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711], "merge_size": 2, "patch_size": 14, "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"longest_edge": 401408, "shortest_edge": 6272},
    "temporal_patch_size": 2},
  "processor_class": "Qwen2_5_VLProcessor",
  "video_processor": {"do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
    "do_sample_frames": false, "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711], "max_frames": 768, "merge_size": 2, "min_frames": 4,
    "patch_size": 14, "resample": 3, "rescale_factor": 0.00392156862745098, "return_metadata": false,
    "size": {"longest_edge": 150528, "shortest_edge": 12544}, "temporal_patch_size": 2,
    "video_processor_type": "Qwen2VLVideoProcessor"}})";

TEST_F(ProcessorFiles, TheNestedProcessorsWinOverTheOlderFiles) {
  write("preprocessor_config.json", fmt::format("{{{}}}", size(3136, 12845056)));
  write("video_preprocessor_config.json", fmt::format("{{{}}}", size(784, 1568)));
  EXPECT_EQ(read().max_pixels, 12845056);
  expect_limits(784, 1568);
  write("processor_config.json", kSavedBy5);
  EXPECT_EQ(read().min_pixels, 6272);
  EXPECT_EQ(read().max_pixels, 401408);
  expect_limits(12544, 150528);
  EXPECT_TRUE(read().warnings.empty()) << read().warnings.front();
}

TEST_F(ProcessorFiles, AProcessorConfigWithoutProcessorsLeavesItToTheOthers) {
  write("processor_config.json",
        R"({"processor_class": "Qwen2_5_VLProcessor", "image_token": "<|image_pad|>"})");
  write("preprocessor_config.json", R"({"min_pixels": 6272, "max_pixels": 50176})");
  EXPECT_EQ(read().max_pixels, 50176);
  expect_limits(6272, 50176);  // videos have no file of their own, and take that of images
  write("processor_config.json", R"({"video_processor": {"max_pixels": 25088}})");
  EXPECT_EQ(read().max_pixels, 50176);
  expect_limits(std::nullopt, 25088);
}

TEST_F(ProcessorFiles, WhereNoFileStatesThemFramesHaveNoLimitsOfTheFolder) {
  write("preprocessor_config.json", R"({"patch_size": 14})");
  expect_limits(std::nullopt, std::nullopt);
  EXPECT_EQ(read().max_pixels, 28 * 28 * 1280);
  write("video_preprocessor_config.json", R"({"max_pixels": 784, "do_resize": false})");
  expect_limits(std::nullopt, std::nullopt);
}

TEST_F(ProcessorFiles, DigitsOfAnF32AreTheNumberThatTheyCameFrom) {
  write("preprocessor_config.json", R"({"image_mean": [0.48145467, 0.45782751, 0.40821072],
      "image_std": [0.26862955, 0.26130259, 0.2757771]})");
  write("video_preprocessor_config.json", R"({"max_pixels": 784})");
  expect_limits(std::nullopt, 784);
}

TEST_F(ProcessorFiles, AnUnknownFieldIsWarnedOfOnce) {
  write("preprocessor_config.json", R"({"min_pixels": 784, "sharpen": 3})");
  ASSERT_EQ(read().warnings.size(), 1u);
  EXPECT_NE(read().warnings[0].find("sharpen"), std::string::npos) << read().warnings[0];
}

TEST_F(ProcessorFiles, AMissingFileIsSaid) {
  ASSERT_EQ(read().warnings.size(), 1u);
  EXPECT_NE(read().warnings[0].find("no preprocessor_config.json"), std::string::npos);
  EXPECT_NE(read().warnings[0].find(folder_.path().string()), std::string::npos);
  write("video_preprocessor_config.json", fmt::format("{{{}}}", size(784, 50176)));
  ASSERT_EQ(read().warnings.size(), 1u);  // still none for images
  expect_limits(784, 50176);
  write("video_preprocessor_config.json", R"({"do_sample_frames": true, "fps": 1})");
  ASSERT_EQ(read().warnings.size(), 2u);
  EXPECT_NE(read().warnings[1].find("do_sample_frames"), std::string::npos);
}

TEST_F(ProcessorFiles, ContradictionsAreNamed) {
  const auto refused = [&](const std::vector<std::string>& words) {
    expect_error(ErrorKind::invalid_argument, words, [&] { read(); });
  };
  write("preprocessor_config.json", R"({"merge_size": 4})");
  refused({"preprocessor_config.json", "merge_size is 4", "config.json says 2"});
  write("preprocessor_config.json", "{}");
  write("video_preprocessor_config.json", R"({"image_mean": [0.5, 0.5, 0.5]})");
  refused({"video_preprocessor_config.json", "image_mean is 0.5", "the image processor says 0.4814546"});
  write("video_preprocessor_config.json", R"({"temporal_patch_size": 1})");
  refused({"temporal_patch_size is 1", "the image processor says 2"});
  write("video_preprocessor_config.json", fmt::format("{{{}}}", size(50176, 784)));
  refused({"video_preprocessor_config.json", "min_pixels 50176 exceeds max_pixels 784"});
  write("video_preprocessor_config.json", "{}");
  write("processor_config.json", R"({"image_processor": 7})");
  expect_error(ErrorKind::corrupt, {"processor_config.json: image_processor", "7"}, [&] { read(); });
  write("processor_config.json", R"({"video_processor": {"do_normalize": false}})");
  expect_error(ErrorKind::unsupported, {"processor_config.json: video_processor: do_normalize"},
               [&] { read(); });
}

}  // namespace
}  // namespace fovea
