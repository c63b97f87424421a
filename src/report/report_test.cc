#include "report/report.h"

#include <limits>

#include "base/error.h"
#include "report/number_format.h"
#include "report/report_testing.h"

namespace fovea {
namespace {

TEST(Report, HasEverySectionOfTheSample) {
  const std::string html = html_report(sample());
  for (const char* id : {"verdict", "configurations", "accuracy", "tags", "drift", "nodes", "cost", "search",
                         "differences", "problems", "environment"}) {
    EXPECT_NE(section(html, id), "") << id;
  }
  EXPECT_TRUE(has(section(html, "verdict"), "fovea chat -m models/fovea-demo --preset flash-bf16"));
  EXPECT_TRUE(has(section(html, "problems"), "mixed-0018"));
  EXPECT_EQ(count(section(html, "accuracy"), "<svg class=\"chart\""), 2);
  EXPECT_EQ(count(section(html, "drift"), "<svg class=\"chart\""), 4);
}

TEST(Report, OfAFileThatAnybodyWrote) {
  EXPECT_EQ(html_report_of_text(sample().dump()), html_report(sample()));
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  for (const std::string& text :
       {std::string("no JSON"), std::string("[]"), std::string(R"({"format": "else"})"), deep,
        R"({"format": "fovea-audit", "x": )" + deep + "}"}) {
    try {
      html_report_of_text(text);
      ADD_FAILURE() << text.substr(0, 40);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::corrupt) << text.substr(0, 40);
    }
  }
}

TEST(Report, OfAProbeShowsWhatToSetInTransformers) {
  json audit = sample();
  audit["made_by"] = "fovea.probe";
  audit["recommended"]["flags"] = "attn_implementation=\"sdpa\"";
  const std::string html = section(html_report(audit), "verdict");
  EXPECT_TRUE(has(html, "attn_implementation=")) << html;
  EXPECT_FALSE(has(html, "fovea chat")) << html;
  EXPECT_TRUE(has(html_report(audit), "Written by fovea.probe"));
}

TEST(Report, NamesEveryConfigurationInTableAndCostWithOneStyle) {
  const json audit = sample();
  const std::string html = html_report(audit);
  size_t style = 0;
  for (const json& configuration : audit["configurations"]) {
    const std::string name = configuration["name"];
    const std::string key = "class=\"key k" + std::to_string(style++) + "\"";
    for (const char* id : {"configurations", "accuracy", "cost"}) {
      const std::string part = section(html, id);
      const size_t at = part.find("<span>" + name + "</span>");
      ASSERT_NE(at, std::string::npos) << name << " in " << id;
      EXPECT_NE(part.rfind("<svg", at), std::string::npos);
      EXPECT_EQ(part.find(key, part.rfind("<svg", at)), part.rfind("<svg", at) + 5) << name << " in " << id;
    }
  }
}

TEST(Report, EscapesTextFromTheAudit) {
  const std::string evil = "</style></script><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>";
  json audit = sample();
  audit["model"]["dir"] = evil;
  audit["suite"]["source"] = evil;
  audit["conclusion"] = {evil, "Why: " + evil};
  audit["reference"] = evil;
  audit["suite"]["problems"][0]["message"] = evil;
  audit["attribution"][0]["node"] = evil;
  audit["recommended"]["flags"] = evil;
  audit["date"] = audit["machine"]["cpu"] = audit["made_by"] = evil;
  audit["command"] = {"fovea", "audit", evil};
  for (json& question : audit["questions"]) {
    question["id"] = question["prompt"] = evil;
    for (json& picture : question["pictures"]) picture["thumbnail"] = evil;
  }
  for (json& configuration : audit["configurations"]) {
    configuration["name"] = evil;
    configuration["policy"] = evil;
    configuration["problems"] = {{{"id", evil}, {"message", evil}}};
    configuration["description"] = evil;
    for (json& item : configuration["items"]) item["id"] = item["answer"] = item["problem"] = evil;
    configuration["items"][0]["answer"] = "";  // or no two of them would differ
    for (json& bucket : configuration["by_context"]) bucket["label"] = evil;
    for (json& bucket : configuration["by_tag"]) bucket["value"] = evil;
  }
  const std::string html = html_report(audit);
  parsed(html);
  EXPECT_TRUE(has(html, "&lt;script&gt;alert(1)"));
  EXPECT_EQ(count(html, "<script"), 1);
  EXPECT_EQ(count(html, "</style"), 1);
  EXPECT_FALSE(has(html, "<img"));
  // The page's own style and script stay where they belong.
  EXPECT_LT(html.find("--page:"), html.find("</style>"));
  EXPECT_GT(html.find("createElement"), html.find("<script>"));
}

TEST(Report, QuotesTheCommandForAShell) {
  json audit = sample();
  audit["model"]["dir"] = "my models/it's";
  audit["recommended"]["flags"] = "--policy eager-bf16:text.scores=fp32;text.scaled=fp32";
  const pugi::xml_document document = parsed(html_report(audit));
  const auto command = document.find_node([](const pugi::xml_node& node) {
    return std::string_view(node.attribute("class").value()) == "command";
  });
  EXPECT_STREQ(command.child("code").text().get(),
               "fovea chat -m 'my models/it'\\''s' --policy 'eager-bf16:text.scores=fp32;text.scaled=fp32'");
}

TEST(Report, LeavesOutWhatWasNotMeasured) {
  json audit = sample();
  audit["attribution"] = json::array();
  audit["attribution_of"] = nullptr;
  audit["search"] = audit["storage_search"] = nullptr;
  audit["suite"]["problems"] = json::array();
  audit.erase("questions");  // base64 may hold any three letters
  for (json& configuration : audit["configurations"]) {
    for (const char* field : {"layers", "kl", "rows_at_risk"}) configuration[field] = nullptr;
    configuration["by_tag"] = configuration["problems"] = json::array();
  }
  const std::string html = html_report(audit);
  parsed(html);
  for (const char* id : {"drift", "nodes", "search", "problems", "tags"})
    EXPECT_EQ(section(html, id), "") << id;
  for (const char* id : {"configurations", "accuracy", "cost"}) EXPECT_NE(section(html, id), "") << id;
  EXPECT_FALSE(has(html, "nan"));
}

TEST(Report, SaysThatNothingReachedTheTarget) {
  json audit = sample();
  audit["recommended"] = nullptr;
  EXPECT_TRUE(has(html_report(audit), "No configuration to recommend"));
}

TEST(Report, SaysThatTheAuditWasInterrupted) {
  json audit = sample();
  EXPECT_FALSE(has(html_report(audit), "interrupted"));
  audit["complete"] = false;
  EXPECT_TRUE(has(html_report(audit), "interrupted"));
}

// No element has a source or a link to anywhere, and the style loads nothing.
TEST(Report, NeedsNoOtherFile) {
  const std::string html = html_report(sample());
  EXPECT_GT(count(html, "src="), 0);
  EXPECT_EQ(count(html, "src="), count(html, "src=\"data:image/png;base64,"));
  for (const char* text : {"http:", "https:", "href=", "url(", "@import", "<link", "<base", "<iframe"}) {
    EXPECT_FALSE(has(html, text)) << text;
  }
}

TEST(Report, IsWellFormedAndSmall) {
  const std::string html = html_report(sample());
  parsed(html);
  EXPECT_EQ(html.rfind("<!DOCTYPE html>", 0), 0u);
  EXPECT_LT(html.size(), 160u << 10);
  EXPECT_FALSE(has(html, "style=\"")) << "the policy allows none";
  // HTML reads these as open tags.
  for (const char* text : {"<div/>", "<span/>", "<td/>", "<p/>", "<div />", "<span />", "<td />", "<p />"}) {
    EXPECT_FALSE(has(html, text)) << text;
  }
}

TEST(Report, SurvivesAnyShapeOfJson) {
  for (const char* text :
       {"{}", "[]", "null", "3", R"({"configurations": 1, "suite": [], "recommended": 2})",
        R"({"configurations": [{}, 1, null], "conclusion": [1, null]})",
        R"({"configurations": [{"name": 3, "accuracy": "high", "interval": [2], "by_context":
                               [{"min": 1}, {"min": 2, "interval": [null, 1]}], "layers": [{"tower": "text"}],
                               "items": [{}], "memory": 1, "seconds": -1}], "attribution": [{}]})"}) {
    parsed(html_report(json::parse(text)));
  }
  // Every member of the sample, replaced by something else.
  const json whole = sample();
  for (const auto& [key, value] : whole.items()) {
    for (const json& other : {json(), json("text"), json(-1), json::array({1}), json::object()}) {
      json audit = whole;
      audit[key] = other;
      if (key == "version" && other.is_number()) {
        EXPECT_THROW(html_report(audit), Error);  // of a fovea that never was
      } else {
        parsed(html_report(audit));
      }
    }
  }
  json audit = sample();
  audit["configurations"][1]["name"] = "bad \xFF utf-8 and \x01 control";
  audit["configurations"][2]["name"] = std::string("nul\0inside", 10);
  const std::string html = html_report(audit);
  parsed(html);
  EXPECT_TRUE(has(html, "nul\xEF\xBF\xBDinside"));
}

TEST(Report, ManyConfigurationsStayDistinct) {
  json audit = sample();
  const json one = audit["configurations"][1];
  for (int i = 0; i < 12; ++i) {
    audit["configurations"].push_back(one);
    audit["configurations"].back()["name"] = "extra-" + std::to_string(i);
  }
  const std::string html = html_report(audit);
  parsed(html);
  EXPECT_TRUE(has(html, "class=\"key k1 dashed\""));
  EXPECT_TRUE(has(section(html, "configurations"), "extra-11"));
  // Not a table of 17 columns.
  EXPECT_TRUE(has(section(html, "tags"), "<table class=\"stack many\">"));
}

TEST(NumberFormat, ReadsLikeWritten) {
  using namespace report;
  const double none = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(percent(0.97512), "97.5\u202F%");
  EXPECT_EQ(points(-0.375), "\u221237.5\u202Fpp");
  EXPECT_EQ(points(0.0001), "\u00B10.0\u202Fpp");
  EXPECT_EQ(small_number(0.000123), "1.2e\u22124");
  EXPECT_EQ(small_number(-1.25), "\u22121.25");
  EXPECT_EQ(small_number(0), "0");
  EXPECT_EQ(count_of(5100000), "5\u202F100\u202F000");
  EXPECT_EQ(count_of(3600), "3600");
  EXPECT_EQ(size_of(512), "0.0\u202FMB");
  EXPECT_EQ(size_of(273715200), "273.7\u202FMB");
  EXPECT_EQ(size_of(145.25e9), "145\u202F250.0\u202FMB");
  EXPECT_EQ(duration_of(0.43), "430\u202Fms");
  EXPECT_EQ(duration_of(59.99), "1\u202Fmin 00\u202Fs");
  EXPECT_EQ(duration_of(231.4), "3\u202Fmin 51\u202Fs");
  EXPECT_EQ(duration_of(7390), "2\u202Fh 03\u202Fmin");
  for (const std::string& text :
       {percent(none), points(none), small_number(none), count_of(none), size_of(none), duration_of(none)}) {
    EXPECT_EQ(text, "\u2013");
  }
}

}  // namespace
}  // namespace fovea
