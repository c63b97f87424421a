#include "serve/answer_writer.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "serve/kept_answer_testing.h"

namespace fovea {
namespace {

// What the engine says, as it comes.
TEST(AnswerWriter, AFailureIsAStatusBeforeTheFirstPieceAndAnEventBehindIt) {
  const Engine engine = Engine::open(FOVEA_SOURCE_DIR "/models/fovea-demo", {}, {});
  const auto numeric =
      std::make_exception_ptr(Error(ErrorKind::numeric, "a value is not finite", "use fp32"));
  for (const bool stream : {false, true}) {
    Metrics metrics("m");
    const auto answer = std::make_shared<KeptAnswer>();
    {
      const auto exchange = std::make_shared<Exchange>(HttpHead{}, ExchangeInfo{}, answer, metrics, LogFn());
      AnswerPlan form;
      form.stream = stream;
      AnswerWriter writer(exchange, form, engine.tokenizer(), metrics, {});
      writer.accepted();
      writer.on_text(0, "so far");
      writer.on_failure(numeric);
    }
    const HttpResponse response = answer->wait();
    EXPECT_EQ(response.status, stream ? 200 : 500);
    const size_t at =
        response.body.find(R"({"error":{"message":"a value is not finite. use fp32","type":"server_error")");
    EXPECT_NE(at, response.body.npos) << response.body;
    EXPECT_EQ(response.body.ends_with("data: [DONE]\n\n"), stream);
    if (stream) {
      EXPECT_LT(response.body.find("so far"), at);
    }
  }
}

}  // namespace
}  // namespace fovea
