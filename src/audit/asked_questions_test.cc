#include "audit/asked_questions.h"

#include <gtest/gtest.h>

#include "base/splitmix64.h"
#include "media/decode.h"
#include "media/source.h"

namespace fovea {
namespace {

Image noise(ImageSize size) {
  Image image(size);
  SplitMix64 random(7);
  for (int64_t i = 0; i < image.rgb.size(); ++i) image.rgb.data()[i] = static_cast<uint8_t>(random.bits());
  return image;
}

Image read_back(const std::string& url) { return decode_image(decode_data_url(url).span(), MediaOptions()); }

TEST(Thumbnails, AreSmallWhateverIsOnThem) {
  for (const ImageSize size : {ImageSize{1000, 700}, {28, 2800}, {5600, 28}, {128, 128}, {1, 1}}) {
    const std::string url = thumbnail(noise(size));
    EXPECT_EQ(url.rfind("data:image/png;base64,", 0), 0u);
    EXPECT_LE(decode_data_url(url).size(), static_cast<int64_t>(kThumbnailBytes)) << size.width;
    const ImageSize small = read_back(url).size;
    EXPECT_LE(std::max(small.width, small.height), kThumbnailSide);
    EXPECT_GE(std::min(small.width, small.height), 1);
    EXPECT_EQ(small.width > small.height, size.width > size.height);
  }
}

TEST(Thumbnails, OfASmallPictureAreThePicture) {
  Image image({20, 30});
  for (int64_t i = 0; i < image.rgb.size(); ++i) image.rgb.data()[i] = static_cast<uint8_t>(i % 251);
  const Image back = read_back(thumbnail(image));
  ASSERT_EQ(back.size, image.size);
  for (int64_t i = 0; i < image.rgb.size(); ++i) ASSERT_EQ(back.rgb.data()[i], image.rgb.data()[i]) << i;
}

ContentPart words(const std::string& text) {
  ContentPart part;
  part.text = text;
  return part;
}

ContentPart picture() {
  ContentPart part;
  part.type = ContentPart::Type::image;
  return part;
}

TEST(ShownPrompt, SaysWherePicturesStand) {
  EXPECT_EQ(shown_prompt({{"user", {words("A: "), picture(), words("B: "), picture(), words("Which?")}, {}}}),
            "A: [picture 1] B: [picture 2] Which?");
  EXPECT_EQ(shown_prompt({{"system", {words("Be short.")}, {}}, {"user", {picture(), words("What?")}, {}}}),
            "system: Be short.\nuser: [picture 1] What?");
}

TEST(ShownPrompt, LeavesOutTheMiddleOfALongOneBetweenCharacters) {
  std::string text = "begin ";
  for (int i = 0; i < 2000; ++i) text += "\u00E4";
  text += " end?";
  for (int shift = 0; shift < 2; ++shift, text = "x" + text) {
    const std::string shown = shown_prompt({{"user", {words(text)}, {}}});
    EXPECT_LT(shown.size(), 1100u);
    EXPECT_TRUE(shown.starts_with(text.substr(0, 6)) && shown.ends_with(" end?"));
    EXPECT_NE(shown.find("bytes left out"), std::string::npos);
    for (size_t i = 0; i + 1 < shown.size(); ++i) {
      const bool begins = static_cast<unsigned char>(shown[i]) == 0xC3;
      ASSERT_EQ(begins, static_cast<unsigned char>(shown[i + 1]) == 0xA4) << i;
    }
  }
}

}  // namespace
}  // namespace fovea
