#include "report/thumbnail.h"

#include <functional>

#include "report/report_testing.h"

namespace fovea {
namespace {

std::string chunk(const std::string& type, const std::string& data) {
  std::string length(4, '\0');
  for (size_t i = 0; i < 4; ++i) length[i] = static_cast<char>(data.size() >> (24 - 8 * i));
  return length + type + data + "crc?";
}

// Of chunks as a PNG has them, 2 x 2 pixels; `change` makes something else of the bytes.
std::string png_url(const std::function<void(std::string&)>& change) {
  std::string png = "\x89PNG\r\n\x1A\n" + chunk("IHDR", std::string("\0\0\0\2\0\0\0\2\x8\2\0\0\0", 13)) +
                    chunk("IDAT", "pixels") + chunk("IEND", "");
  change(png);
  return "data:image/png;base64," + base64(png);
}

TEST(Thumbnail, IsASmallPngAndNothingElse) {
  const auto given = [](const json& thumbnail) {
    json audit = sample();
    audit["questions"][0]["pictures"] = {{{"thumbnail", thumbnail}}};
    audit["questions"].erase(1);
    audit["questions"].erase(1);
    const std::string html = html_report(audit);
    parsed(html);
    return count(html, "<img");
  };
  const std::string good = sample()["questions"][0]["pictures"][0]["thumbnail"];
  const std::string head = "data:image/png;base64,";
  EXPECT_EQ(given(good), 1u);
  EXPECT_EQ(given(png_url([](std::string&) {})), 1u);
  for (const json& bad :
       {json(), json(7), json::array({good}), json(""), json(head), json(good + "\""), json(good + " "),
        json(" " + good), json("x" + good), json("https://example.org/a.png"), json("javascript:alert(1)"),
        json("data:image/svg+xml;base64,PHN2Zy8+"), json("data:text/html;base64,PGI+"),
        json("DATA:image/png;base64," + good.substr(head.size())),
        json("data:image/png," + good.substr(head.size())), json(head + good.substr(head.size(), 400)),
        json(head + "\n" + good.substr(head.size())), json(head + good.substr(head.size()) + "AAAA"),
        json(head + std::string(4 << 20, 'A'))}) {
    EXPECT_EQ(given(bad), 0u) << bad.dump().substr(0, 80);
  }
}

TEST(Thumbnail, OfAnotherSizeOrWithOtherChunksIsLeftOut) {
  const auto shown = [](const std::function<void(std::string&)>& change) {
    json audit = sample();
    audit["questions"] = {
        {{"id", audit["questions"][0]["id"]}, {"pictures", {{{"thumbnail", png_url(change)}}}}}};
    return count(html_report(audit), "<img");
  };
  constexpr size_t kWidth = 16, kHeight = 20, kDepth = 24;
  EXPECT_EQ(shown([](std::string& png) { png[kWidth + 2] = 1, png[kWidth + 3] = 0; }), 1u) << "256 wide";
  EXPECT_EQ(shown([](std::string& png) { png[kWidth + 2] = 1; }), 0u) << "258 wide";
  EXPECT_EQ(shown([](std::string& png) { png[kWidth] = '\x7F'; }), 0u) << "two thousand million wide";
  EXPECT_EQ(shown([](std::string& png) { png[kHeight + 3] = 0; }), 0u) << "without height";
  EXPECT_EQ(shown([](std::string& png) { png[kDepth] = 16; }), 0u) << "16 bits";
  EXPECT_EQ(shown([](std::string& png) { png.resize(png.size() - 12); }), 0u) << "without an end";
  EXPECT_EQ(shown([](std::string& png) { png += chunk("IDAT", "x"); }), 0u) << "behind the end";
  EXPECT_EQ(shown([](std::string& png) { png += "x"; }), 0u);
  EXPECT_EQ(shown([](std::string& png) { png.insert(png.size() - 12, chunk("zTXt", "bomb")); }), 0u);
  EXPECT_EQ(shown([](std::string& png) { png.insert(33, chunk("iCCP", "bomb")); }), 0u);
  EXPECT_EQ(shown([](std::string& png) { png[8] = '\xFF'; }), 0u) << "a length beyond the file";
  EXPECT_EQ(shown([](std::string& png) { png.insert(33, chunk("IHDR", std::string(13, '\1'))); }), 0u);
  EXPECT_EQ(shown([](std::string& png) { png[1] = 'J'; }), 0u);
}

}  // namespace
}  // namespace fovea
