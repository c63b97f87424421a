// Goal: a page in somebody's browser, and whoever does not know a key, gets nothing. Method: heads of
// requests as browsers, clients and attackers send them.
#include "serve/access.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace fovea {
namespace {

HttpHead head(HttpHeaders headers, bool secure = false) {
  HttpHead head;
  head.method = "POST";
  head.target = "/v1/chat/completions";
  head.headers = std::move(headers);
  head.local_address = "192.168.7.5";
  head.secure = secure;
  return head;
}

int status_of(const Access& access, const HttpHead& asked) {
  try {
    access.check_origin(asked);
    access.check_key(asked);
    return 200;
  } catch (const HttpProblem& problem) {
    return problem.status();
  }
}

TEST(Access, OnlyNamesOfThisServerAreTaken) {
  const Access access({"0.0.0.0", {"gpu.example:9000", "Other.Example"}, {}, {}});
  for (const char* host : {"localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.7.5:1",
                           "0.0.0.0", "gpu.example", "gpu.example:80", "other.example"}) {
    EXPECT_EQ(status_of(access, head({{"Host", host}})), 200) << host;
  }
  for (const char* host :
       {"attacker.example", "localhost.attacker.example", "127.0.0.1.attacker.example", "192.168.7.6",
        "xlocalhost", "", ":8000", "[", "gpu.example.", "[::2]", "127.0.0.2"}) {
    EXPECT_NE(status_of(access, head({{"Host", host}})), 200) << host;
  }
  EXPECT_EQ(status_of(access, head({})), 400);
  EXPECT_EQ(status_of(access, head({{"Host", "localhost"}, {"host", "attacker.example"}})), 400);
  EXPECT_EQ(status_of(Access({"::", {"*"}, {}, {}}), head({{"Host", "anything.example"}})), 200);
}

TEST(Access, OnlyPagesThatAreAllowedMayAsk) {
  const Access access({"127.0.0.1", {}, {"https://chat.example"}, {}});
  const auto from = [&](const char* origin, bool secure = false) {
    return status_of(access, head({{"Host", "localhost:8000"}, {"Origin", origin}}, secure));
  };
  EXPECT_EQ(from("https://chat.example"), 200);
  EXPECT_EQ(from("http://localhost:8000"), 200);  // its own page
  EXPECT_EQ(from("https://localhost:8000", true), 200);
  for (const char* origin : {"http://chat.example", "https://chat.example.attacker.example", "null",
                             "http://localhost:8001", "https://localhost:8000", ""}) {
    EXPECT_EQ(from(origin), 403) << origin;
  }
  const HttpHeaders cors = access.cors_headers(head({{"Origin", "https://chat.example"}}));
  ASSERT_EQ(cors.size(), 3u);
  EXPECT_EQ(cors[0].second, "https://chat.example");
  EXPECT_TRUE(access.cors_headers(head({{"Origin", "http://localhost:8000"}})).empty());
  const HttpResponse preflight =
      access.preflight(head({{"Origin", "https://chat.example"},
                             {"Access-Control-Request-Headers", "authorization, x-stainless-os"}}));
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.back().second, "authorization, x-stainless-os");
}

TEST(Access, AKeyIsAskedForInEitherHeader) {
  const Access access({"127.0.0.1", {}, {}, ApiKeys::parse("# ours\nfirst-key\n\n  second-key  \r\n")});
  const auto with = [&](const char* name, const char* value) {
    return status_of(access, head({{"Host", "localhost"}, {name, value}}));
  };
  EXPECT_EQ(with("Authorization", "Bearer first-key"), 200);
  EXPECT_EQ(with("authorization", "bearer second-key"), 200);
  EXPECT_EQ(with("X-Api-Key", "second-key"), 200);
  for (const char* value : {"Bearer first-ke", "Bearer first-key2", "Bearer ", "first-key", "Basic first-key",
                            "Bearer # ours", "Bearer  first-key"}) {
    EXPECT_EQ(with("Authorization", value), 401) << value;
  }
  EXPECT_EQ(with("X-Api-Key", ""), 401);
  EXPECT_EQ(with("Cookie", "first-key"), 401);
}

TEST(ApiKeys, AFileWithoutAKeyIsRefused) {
  EXPECT_THROW(ApiKeys::parse("# nothing\n\n"), Error);
  EXPECT_THROW(ApiKeys::parse("two words\n"), Error);
  EXPECT_THROW(ApiKeys::parse("gr\xc3\xbc\xc3\x9f"
                              "e"),
               Error);
}

TEST(Access, OnlyJsonIsTaken) {
  for (const char* type : {"application/json", "Application/JSON; charset=utf-8", "application/json ;x"}) {
    EXPECT_NO_THROW(Access::check_content_type(head({{"Content-Type", type}}))) << type;
  }
  for (const char* type :
       {"text/plain", "application/x-www-form-urlencoded", "", "application/jsonx", "json"}) {
    EXPECT_THROW(Access::check_content_type(head({{"Content-Type", type}})), HttpProblem) << type;
  }
  EXPECT_THROW(Access::check_content_type(head({})), HttpProblem);
}

TEST(CacheSpaces, DifferByKeyAndSaltAndProcess) {
  const CacheSpaces spaces, others;
  EXPECT_EQ(spaces.of("k", "s"), spaces.of("k", "s"));
  EXPECT_NE(spaces.of("k", "s"), spaces.of("k", ""));
  EXPECT_NE(spaces.of("k", "s"), spaces.of("j", "s"));
  EXPECT_NE(spaces.of("ks", ""), spaces.of("k", "s"));
  EXPECT_NE(spaces.of("k", "s"), others.of("k", "s"));
}

}  // namespace
}  // namespace fovea
