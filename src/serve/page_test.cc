#include "serve/page.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace fovea {
namespace {

// What a page of another host could change would be run here: nothing but the page's own files is.
TEST(Page, LetsNothingElseRun) {
  const auto page = page_response("/");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  const auto policy =
      std::ranges::find(page->headers, "Content-Security-Policy", &HttpHeaders::value_type::first);
  ASSERT_NE(policy, page->headers.end());
  EXPECT_NE(policy->second.find("default-src 'none'; script-src 'self'"), std::string::npos);
  EXPECT_EQ(policy->second.find("unsafe"), std::string::npos);
  for (const char* inlined : {"<style", " style=", "<script>", " onclick=", "javascript:"})
    EXPECT_EQ(page->body.find(inlined), std::string::npos) << inlined;
}

TEST(Page, HasEveryFileThatItNamesAndNoOther) {
  const auto page = page_response("/");
  ASSERT_TRUE(page);
  for (const char* file : {"page.css", "page.js", "page.svg"}) {
    EXPECT_NE(page->body.find(std::string("\"") + file + "\""), std::string::npos) << file;
    EXPECT_TRUE(page_response(std::string("/") + file)) << file;
  }
  for (const char* path : {"", "index.html", "/page.html", "/../page.js", "//page.js", "/page"})
    EXPECT_FALSE(page_response(path)) << path;
}

// What a model says is untrusted: it may become text, never markup.
TEST(Page, MakesNoMarkupOfTexts) {
  const auto script = page_response("/page.js");
  ASSERT_TRUE(script);
  for (const char* markup :
       {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"})
    EXPECT_EQ(script->body.find(markup), std::string::npos) << markup;
}

}  // namespace
}  // namespace fovea
