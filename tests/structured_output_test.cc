// Goal: held answers of a model parse and satisfy their schema; they are the same alone, in a batch, and with
// speculation; an answer that is not held is as it was. Method: the demo model, sampled hot so that it would
// say anything.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "grammar/grammar_compiler.h"
#include "runtime/batch_engine.h"
#include "runtime/constraint.h"

namespace fovea {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";
constexpr const char* kSchema =
    R"({"type":"object","properties":{"shape":{"enum":["circle","square"]},"count":{"type":"integer","minimum":0,)"
    R"("maximum":9},"seen":{"type":"array","items":{"type":"boolean"},"maxItems":3}},"required":["shape","count"]})";

class StructuredOutput : public testing::Test {
 protected:
  Prompt prompt(const std::string& words) const {
    return engine_.prepare(messages_from_prompt(words, {}, {}, std::nullopt), {}, false);
  }
  GenerationOptions options(uint64_t seed, bool held) {
    GenerationOptions options = engine_.default_generation();
    options.sampling = {.greedy = seed == 0, .temperature = 3, .top_k = 0, .seed = seed};
    options.max_new_tokens = 400;
    options.prompt_lookup_num_tokens = 0;
    if (held) constrain(options, compiler_.json_schema(kSchema, "schema"));
    return options;
  }

  const Engine engine_ = Engine::open(kDemo, {}, {});
  GrammarCompiler compiler_{engine_.tokenizer()};
};

void expect_fits(const Answer& answer) {
  ASSERT_EQ(answer.finish_reason, "stop") << answer.text;
  const auto json = nlohmann::json::parse(answer.text, nullptr, false);
  ASSERT_TRUE(json.is_object()) << answer.text;
  EXPECT_TRUE(json.at("shape") == "circle" || json.at("shape") == "square") << answer.text;
  EXPECT_TRUE(json.at("count") >= 0 && json.at("count") <= 9) << answer.text;
  EXPECT_LE(json.value("seen", nlohmann::json::array()).size(), 3u) << answer.text;
}

TEST_F(StructuredOutput, FitsAloneWithSpeculationAndInCompany) {
  BatchEngine batch(engine_, {.max_num_seqs = 4, .kv_cache_bytes = 32 * BatchEngine::block_bytes(engine_)});
  std::vector<Answer> alone, together(8);
  int64_t accepted = 0;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    // Every second one is not held, so that the company differs.
    const bool held = seed % 2 == 0;
    const Prompt question = prompt("Which shape is it?");
    GenerationOptions how = options(seed, held);
    alone.push_back(engine_.generate(question, how, {}));
    if (held) expect_fits(alone.back());
    how.prompt_lookup_num_tokens = 8;
    // Right and wrong tokens, by turns.
    const std::vector<int32_t> known = alone.back().token_ids;
    how.propose = [&, size = question.ids.size()](std::span<const int32_t> ids, int64_t most) {
      const size_t at = ids.size() - size;
      std::vector<int32_t> next(known.begin() + static_cast<std::ptrdiff_t>(std::min(at, known.size())),
                                known.end());
      next.resize(std::min(next.size(), static_cast<size_t>(most)));
      if (at % 3 == 0 && !next.empty()) next.back() = 5;
      return next;
    };
    const Answer ahead = engine_.generate(question, how, {});
    EXPECT_EQ(ahead.token_ids, alone.back().token_ids);
    accepted += ahead.speculation.accepted;
    batch.add(prompt("Which shape is it?"), options(seed, held),
              {.on_answer = [&together, seed](Answer answer) { together[seed] = std::move(answer); }});
  }
  while (batch.step()) {
  }
  EXPECT_GT(accepted, 20);
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(together[i].token_ids, alone[i].token_ids) << i;
    EXPECT_EQ(together[i].text, alone[i].text) << i;
  }
}

TEST_F(StructuredOutput, CallsAToolThatMustBeCalled) {
  const std::vector<ToolSignature> tools = {{"look", kSchema, "tools[0]"}};
  for (uint64_t seed = 0; seed < 4; ++seed) {
    GenerationOptions how = options(seed, false);
    constrain(how, compiler_.tool_calls(tools, false));
    Answer answer = engine_.generate(prompt("Look."), how, {});
    const std::string head = "<tool_call>\n{\"name\": \"look\", \"arguments\": ", tail = "}\n</tool_call>";
    ASSERT_TRUE(answer.text.starts_with(head) && answer.text.ends_with(tail)) << answer.text;
    answer.text = answer.text.substr(head.size(), answer.text.size() - head.size() - tail.size());
    expect_fits(answer);
  }
}

}  // namespace
}  // namespace fovea
