// What single sections show: questions whose answers differ, tags, charts, facts.
#include "report/sections.h"

#include <array>
#include <set>

#include "report/parts.h"
#include "report/report_testing.h"

namespace fovea {
namespace {

TEST(ReportSections, ShowsWhatWasAskedWithItsPictures) {
  const json audit = sample();
  const std::string html = section(html_report(audit), "differences");
  size_t at = 0;
  for (const json& question : audit["questions"]) {
    const size_t found = html.find(">" + question["id"].get<std::string>() + "<", at);
    ASSERT_NE(found, std::string::npos) << question["id"] << " in the audit's order";
    at = found;
    const std::string card = html.substr(at, html.find("</article>", at) - at);
    EXPECT_TRUE(has(card, "What number is in picture 1?"));
    for (const json& picture : question["pictures"]) {
      EXPECT_TRUE(has(card, "src=\"" + picture["thumbnail"].get<std::string>() + "\""));
    }
    EXPECT_EQ(count(card, "<img"), question["pictures"].size());
  }
}

// An audit of one question with these answers, right where they are "7".
json asked(const std::vector<std::string>& answers) {
  json audit = {{"format", "fovea-audit"}, {"reference", "c0"}, {"configurations", json::array()}};
  for (size_t i = 0; i < answers.size(); ++i) {
    const json item = {{"id", "q"},         {"context", 9},         {"images", 0},
                       {"expected", {"7"}}, {"answer", answers[i]}, {"correct", answers[i] == "7"}};
    audit["configurations"].push_back({{"name", "c" + std::to_string(i)}, {"items", {item}}});
  }
  return audit;
}

TEST(ReportSections, SetsAnswersSideBySideWhereTheyDiffer) {
  EXPECT_EQ(section(html_report(asked({"7", "7", "7"})), "differences"), "");
  EXPECT_EQ(section(html_report(asked({"9", "9"})), "differences"), "") << "wrong alike";
  const std::string html = section(html_report(asked({"7", "7", "8", "7"})), "differences");
  EXPECT_EQ(count(html, "<li class=\"right\""), 1) << "three that answer alike stand together";
  EXPECT_EQ(count(html, "<li class=\"wrong\""), 1);
  const std::string right = html.substr(html.find("<li class=\"right\""),
                                        html.find("<li class=\"wrong\"") - html.find("<li class=\"right\""));
  for (const char* name : {"<span>c0</span>", "<span>c1</span>", "<span>c3</span>"})
    EXPECT_TRUE(has(right, name));
  EXPECT_FALSE(has(right, "<span>c2</span>"));
  EXPECT_TRUE(has(html, "<q><mark>8</mark></q>"));

  const std::string words = section(html_report(asked({"the code is 12", "the code is 13"})), "differences");
  EXPECT_TRUE(has(words, "differ in words alone"));
  EXPECT_TRUE(has(words, "<q>the code is 1<mark>3</mark></q>")) << words;
  // Not inside a character, and of a long answer what is around the difference.
  EXPECT_TRUE(has(section(html_report(asked({"\u00E4", "\u00E5"})), "differences"), "<mark>\u00E5</mark>"));
  const std::string same(1000, 'x');
  const std::string longer = section(html_report(asked({same + "a", same + "b"})), "differences");
  EXPECT_TRUE(has(longer, "<mark>b</mark>"));
  EXPECT_FALSE(has(longer, std::string(300, 'x')));
}

TEST(ReportSections, SaysInOneLineWhatAConfigurationIs) {
  const json audit = sample();
  const std::string html = html_report(audit);
  for (const json& configuration : audit["configurations"]) {
    const std::string said =
        "<span class=\"why\">" + configuration["description"].get<std::string>() + "</span>";
    EXPECT_EQ(count(section(html, "configurations"), said), 1u) << said;
  }
  EXPECT_TRUE(has(section(html, "verdict"), audit["recommended"]["description"].get<std::string>()));
}

TEST(ReportSections, SaysWhenAndWhereItWasMade) {
  const std::string html = html_report(sample());
  EXPECT_LT(html.find("2026-11-28 09:41 UTC \u00B7 AMD EPYC 7B13"), html.find("</header>"));
  for (const char* fact :
       {"<dt>CPU</dt><dd>AMD EPYC 7B13</dd>", "<dt>date</dt><dd>2026-11-28 09:41 UTC</dd>"}) {
    EXPECT_TRUE(has(section(html, "environment"), fact)) << fact;
  }
}

TEST(ReportSections, HasOneUnitOfMemory) {
  const json audit = sample();
  const std::string html = html_report(audit);
  for (const json& configuration : audit["configurations"]) {
    char shown[64];  // as audit_tables.cc prints it
    std::snprintf(shown, sizeof shown, "%.1f\u202FMB", configuration["peak_bytes"].get<double>() / 1e6);
    EXPECT_TRUE(has(section(html, "cost"), shown) && has(section(html, "configurations"), shown)) << shown;
  }
  for (const char* unit : {"\u202FB<", "\u202FKiB", "\u202FMiB", "\u202FGiB", "\u202FGB", "\u202FkB"}) {
    EXPECT_FALSE(has(html, unit)) << unit;
  }
}

// An audit of one configuration with these tags: {tag, value, right, questions}.
json tagged(const std::vector<std::tuple<std::string, std::string, int, int>>& entries) {
  json list = json::array();
  for (const auto& [tag, value, correct, questions] : entries) {
    list.push_back({{"tag", tag}, {"value", value}, {"correct", correct}, {"count", questions}});
  }
  return {{"format", "fovea-audit"}, {"configurations", {{{"name", "one"}, {"by_tag", list}}}}};
}

TEST(ReportSections, BinsNumbersAndFoldsRareWords) {
  std::vector<std::tuple<std::string, std::string, int, int>> entries;
  for (int i = 1; i <= 45; ++i) entries.emplace_back("tokens", std::to_string(i), i <= 20, 1);
  for (int i = 0; i < 30; ++i) entries.emplace_back("word", "w" + std::to_string(i), 1, i == 7 ? 9 : 1);
  entries.emplace_back("alike", "all", 20, 45);
  for (const char* listed : {"blurred", "turned"}) entries.emplace_back(listed, "", 1, 4);
  const std::string html = section(html_report(tagged(entries)), "tags");
  EXPECT_EQ(count(html, "<tr><th scope=\"row\">"), 5 + 6 + 2) << html;
  EXPECT_TRUE(has(html, ">1 to 9</th>") && has(html, ">37 to 45</th>"));
  EXPECT_TRUE(has(html, ">9 of 9</span>") && has(html, ">2 of 9</span>") && has(html, ">0 of 9</span>"));
  EXPECT_TRUE(has(html, "45 values in 5 bins"));
  EXPECT_TRUE(has(html, ">w7</th>") && has(html, ">25 other values</th>"));
  EXPECT_TRUE(has(html, ">blurred</th>") && has(html, ">turned</th>"));
  EXPECT_FALSE(has(html, "alike")) << "it tells no questions apart";
  // The one that tells most is open.
  EXPECT_EQ(count(html, "<details"), 3u);
  EXPECT_EQ(count(html, "<details open=\"open\">"), 1u);
  EXPECT_LT(html.find("open=\"open\""), html.find("Accuracy by tokens"));
  EXPECT_LT(html.find("Accuracy by tokens"), html.find("Accuracy by word"));
}

TEST(ReportSections, KeepsFewValuesAsTheyAre) {
  const std::string html =
      section(html_report(tagged({{"n", "10", 1, 3}, {"n", "9", 3, 3}, {"n", "-0.5", 0, 3}})), "tags");
  EXPECT_LT(html.find(">-0.5</th>"), html.find(">9</th>"));
  EXPECT_LT(html.find(">9</th>"), html.find(">10</th>")) << "in the order of numbers";
  EXPECT_FALSE(has(html, "bins"));
}

// Intervals of rows that the report puts together are those of the audit.
TEST(ReportSections, ComputesIntervalsAsTheAuditDoes) {
  const auto [low, high] = report::wilson_interval(9, 20);  // statistics_test.cc
  EXPECT_NEAR(low, 0.2582, 1e-4);
  EXPECT_NEAR(high, 0.6579, 1e-4);
  EXPECT_EQ(report::wilson_interval(0, 5).first, 0.0);
  EXPECT_NEAR(report::wilson_interval(5, 5).second, 1.0, 1e-12);
  EXPECT_EQ(report::wilson_interval(3, 0), (std::pair<double, double>(0, 1)));
}

// Three configurations over two lengths of context: the first two alike.
json drawn(const std::vector<std::array<double, 2>>& shares) {
  json audit = {{"format", "fovea-audit"}, {"configurations", json::array()}};
  for (size_t i = 0; i < shares.size(); ++i) {
    json buckets = json::array();
    for (size_t at = 0; at < 2; ++at) {
      buckets.push_back({{"min", at}, {"label", std::to_string(at)}, {"accuracy", shares[i][at]}});
    }
    audit["configurations"].push_back({{"name", "c" + std::to_string(i)}, {"by_context", buckets}});
  }
  return audit;
}

TEST(ReportSections, CoincidingLinesAreDrawnInTurns) {
  const std::string html = section(html_report(drawn({{1, 1}, {1, 1}, {0.2, 0.4}, {1, 1}})), "accuracy");
  const std::string chart = html.substr(html.find("<svg class=\"chart\""));  // behind the legend's keys
  EXPECT_EQ(count(chart.substr(0, chart.find("</svg>")), "class=\"line\" d="), 1u) << "the one that is alone";
  EXPECT_EQ(count(html, "stroke-dasharray=\"8 16\""), 3u);
  std::set<std::string> offsets;
  for (size_t at = html.find("stroke-dashoffset="); at != std::string::npos;
       at = html.find("stroke-dashoffset=", at + 1)) {
    offsets.insert(html.substr(at, html.find('"', at + 20) - at));
  }
  EXPECT_EQ(offsets.size(), 3u);
  EXPECT_TRUE(has(html, "drawn in turns: c0, c1, c3."));
  EXPECT_FALSE(has(section(html_report(drawn({{1, 1}, {0.2, 0.4}})), "accuracy"), "in turns"));
  // Their markers stand side by side.
  std::set<std::string> places;
  for (size_t at = html.find("class=\"marker\" d=\"M"); at != std::string::npos;
       at = html.find("class=\"marker\" d=\"M", at + 1)) {
    places.insert(html.substr(at, 40));
  }
  EXPECT_GE(places.size(), 8u);
}

}  // namespace
}  // namespace fovea
