// Goal: a batch changes no bit of anyone's result, and the failure of one sequence is its own. Method:
// sequences of random lengths go through the decoder of the demo model in random company, cut at random
// places; every row's hidden state and logits are compared bit for bit with those of the same sequence alone,
// fed at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/parallel.h"
#include "model/decoder.h"
#include "runtime/engine.h"

namespace fovea {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(FOVEA_SOURCE_DIR) / "models" / "fovea-demo";

// One sequence's rows: what goes in, and what came out of them.
struct Rows {
  std::vector<float> embedded, hidden;
  std::vector<int64_t> places;
  int64_t count = 0, fed = 0;

  std::array<std::span<const int64_t>, 3> positions(int64_t first, int64_t rows) const {
    const auto part = std::span(places).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
    return {part, part, part};
  }
};

class Model {
 public:
  explicit Model(const std::string& policy)
      : engine_(open(policy)),
        store_(engine_.checkpoint()),
        decoder_(store_, text(), engine_.precision().logits) {}

  const Decoder& decoder() const { return decoder_; }
  const LayeredPrecision& text() const { return engine_.precision().text; }
  int64_t width() const { return decoder_.config().hidden_size; }
  int64_t vocab() const { return decoder_.config().vocab_size; }
  KvCache cache(int64_t tokens) const {
    return {decoder_.config(), tokens, text().layers, {}, std::nullopt, true};
  }

  Rows random_rows(std::mt19937& random, int64_t count) const {
    Rows rows;
    rows.count = count;
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i) {
      ids.push_back(static_cast<int32_t>(random() % 1000));
      rows.places.push_back(i);
    }
    rows.embedded.resize(static_cast<size_t>(count * width()));
    decoder_.embed(ids, rows.embedded.data());
    return rows;
  }

  GuardReport guard() const {
    GuardReport report;
    report.options.mode = GuardMode::warn;
    report.text.assign(text().layers.size(),
                       std::vector<HeadGuard>(static_cast<size_t>(decoder_.config().num_attention_heads)));
    return report;
  }

 private:
  static Engine open(const std::string& policy) {
    EngineOptions options;
    options.policy = PrecisionPolicy::parse_text(policy);
    return Engine::open(kDemo, options, {});
  }

  Engine engine_;
  WeightStore store_;
  Decoder decoder_;
};

void feed_alone(const Model& model, Rows& rows, GuardReport* guard = nullptr) {
  KvCache cache = model.cache(rows.count);
  DecoderScratch scratch;
  rows.hidden = rows.embedded;
  Segment segment{&cache, rows.count, rows.positions(0, rows.count), guard};
  model.decoder().forward(rows.hidden.data(), {&segment, 1}, scratch);
  rethrow_failure({&segment, 1});
}

std::vector<float> logits_of(const Model& model, const float* hidden, int64_t rows) {
  std::vector<float> logits(static_cast<size_t>(rows * model.vocab()));
  DecoderScratch scratch;
  model.decoder().logits(hidden, rows, logits.data(), scratch);
  return logits;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Feeds all sequences in steps of random company: each step some of them, each some of its rows.
void feed_together(const Model& model, std::mt19937& random, std::vector<Rows>& all,
                   std::vector<GuardReport>* guards = nullptr) {
  std::vector<KvCache> caches;
  for (Rows& rows : all) {
    caches.push_back(model.cache(rows.count));
    rows.hidden.clear();
    rows.fed = 0;
  }
  DecoderScratch scratch;
  const auto unfinished = [&] {
    return std::any_of(all.begin(), all.end(), [](const Rows& rows) { return rows.fed < rows.count; });
  };
  while (unfinished()) {
    std::vector<Segment> segments;
    std::vector<size_t> who;
    std::vector<float> hidden;
    for (size_t i = 0; i < all.size(); ++i) {
      Rows& rows = all[i];
      if (rows.fed == rows.count || random() % 4 == 0) continue;
      const int64_t most = rows.count - rows.fed,
                    count = random() % 2 == 0 ? 1 : 1 + static_cast<int64_t>(random() % 200) % most;
      segments.push_back(
          {&caches[i], count, rows.positions(rows.fed, count), guards ? &(*guards)[i] : nullptr});
      who.push_back(i);
      const auto from = rows.embedded.begin() + rows.fed * model.width();
      hidden.insert(hidden.end(), from, from + count * model.width());
    }
    if (segments.empty()) continue;
    const int64_t piece = random() % 3 == 0 ? 1 + static_cast<int64_t>(random() % 64) : 0;
    model.decoder().forward(hidden.data(), segments, scratch, {}, piece);
    rethrow_failure(segments);
    const float* from = hidden.data();
    for (size_t s = 0; s < segments.size(); ++s) {
      Rows& rows = all[who[s]];
      rows.hidden.insert(rows.hidden.end(), from, from + segments[s].count * model.width());
      from += segments[s].count * model.width();
      rows.fed += segments[s].count;
    }
  }
}

class EveryPolicy : public testing::TestWithParam<const char*> {};

TEST_P(EveryPolicy, ABatchChangesNoBit) {
  const Model model(GetParam());
  std::mt19937 random(7);
  const int threads_before = threads();
  for (int round = 0; round < 4; ++round) {
    std::vector<Rows> all;
    const int64_t sequences = 1 + static_cast<int64_t>(random() % 6);
    for (int64_t i = 0; i < sequences; ++i) {
      // Some longer than a split of keys, so that decode rows of one batch go different ways.
      all.push_back(model.random_rows(random, 1 + static_cast<int64_t>(random() % (i == 0 ? 700 : 90))));
    }
    set_threads(1 + round);
    feed_together(model, random, all);
    set_threads(threads_before);
    for (Rows& together : all) {
      Rows alone = together;
      feed_alone(model, alone);
      ASSERT_TRUE(same_bits(together.hidden, alone.hidden))
          << "round " << round << ", " << alone.count << " rows";
      ASSERT_TRUE(same_bits(logits_of(model, together.hidden.data(), together.count),
                            logits_of(model, alone.hidden.data() + (alone.count - 1) * model.width(), 1)) ||
                  together.count > 1);
    }
  }
}

TEST_P(EveryPolicy, TheGuardOfARequestSeesItsOwnRowsAlone) {
  const Model model(GetParam());
  std::mt19937 random(8);
  std::vector<Rows> all;
  for (const int64_t count : {70, 3, 130}) all.push_back(model.random_rows(random, count));
  std::vector<GuardReport> together(all.size(), model.guard());
  feed_together(model, random, all, &together);
  for (size_t i = 0; i < all.size(); ++i) {
    GuardReport alone = model.guard();
    feed_alone(model, all[i], &alone);
    EXPECT_EQ(together[i].text, alone.text) << i;
  }
}

// Feeds rows [first, end) of a sequence to its cache and compares them with those of the sequence alone.
void feed_and_compare(const Model& model, KvCache& cache, const Rows& rows, int64_t end, GuardReport& guard) {
  const int64_t first = cache.tokens();
  std::vector<float> hidden(rows.embedded.begin() + first * model.width(),
                            rows.embedded.begin() + end * model.width());
  DecoderScratch scratch;
  Segment segment{&cache, end - first, rows.positions(first, end - first), &guard};
  model.decoder().forward(hidden.data(), {&segment, 1}, scratch);
  rethrow_failure({&segment, 1});
  const auto alone =
      std::span(rows.hidden).subspan(static_cast<size_t>(first * model.width()), hidden.size());
  EXPECT_TRUE(same_bits(hidden, alone)) << first << " to " << end;
}

// Three sequences begin with the same 150 tokens, two of them go on differently: one shares two blocks, one
// also goes on in a copy of the third, whose maker writes on in its own.
TEST_P(EveryPolicy, SharedBlocksHoldTheBitsOfOnesOwn) {
  const Model model(GetParam());
  std::mt19937 random(9);
  std::vector<Rows> all = {model.random_rows(random, 220), model.random_rows(random, 230),
                           model.random_rows(random, 200)};
  for (const auto& [index, shared] :
       {std::pair(size_t{1}, int64_t{128}), std::pair(size_t{2}, int64_t{150})}) {
    std::copy_n(all[0].embedded.begin(), shared * model.width(), all[index].embedded.begin());
  }
  std::vector<GuardReport> alone(3, model.guard()), together(3, model.guard());
  for (size_t i = 0; i < all.size(); ++i) feed_alone(model, all[i], &alone[i]);
  KvPool pool(KvLayout(model.decoder().config(), model.text().layers, {}, true), 8);
  std::vector<KvCache> caches;
  for (int i = 0; i < 3; ++i) caches.emplace_back(pool);
  const std::vector<std::vector<int64_t>> blocks = {{5, 0, 2, 7}, {5, 0, 1, 3}, {5, 0, 4, 6}};
  for (size_t i = 0; i < 3; ++i) {
    for (const int64_t block : blocks[i]) caches[i].set_block(caches[i].capacity() / kPageTokens, block);
  }
  feed_and_compare(model, caches[0], all[0], 150, together[0]);
  caches[1].found(128);
  pool.copy(2, 4);
  caches[2].found(150);
  feed_and_compare(model, caches[0], all[0], 151, together[0]);
  feed_and_compare(model, caches[1], all[1], 230, together[1]);
  feed_and_compare(model, caches[2], all[2], 200, together[2]);
  feed_and_compare(model, caches[0], all[0], 220, together[0]);
  EXPECT_EQ(together[0].text, alone[0].text);
  // Of the others the guard counts what was computed; the largest score of a row knows the keys it found.
  EXPECT_LT(together[1].text.front().front().rows, alone[1].text.front().front().rows);
}

INSTANTIATE_TEST_SUITE_P(Batch, EveryPolicy,
                         testing::Values("dtype=fp32", "dtype=bf16", "preset=eager-bf16", "preset=sdpa",
                                         "preset=fast", "preset=balanced", "text.bias_split=on",
                                         "text.k_cache=int8,text.v_cache=int8",
                                         "text.k_cache=int8,text.v_cache=int8,text.bias_split=on"));

// Rows of logits do not see each other either.
TEST(Batch, LogitsOfManyRowsAreThoseOfEach) {
  const Model model("dtype=bf16");
  std::mt19937 random(3);
  Rows rows = model.random_rows(random, 40);
  feed_alone(model, rows);
  const std::vector<float> all = logits_of(model, rows.hidden.data(), rows.count);
  for (int64_t r = 0; r < rows.count; ++r) {
    const auto one = logits_of(model, rows.hidden.data() + r * model.width(), 1);
    EXPECT_TRUE(same_bits(one, std::span(all).subspan(static_cast<size_t>(r * model.vocab()), one.size())))
        << r;
  }
}

// The words of a failure, empty without one.
std::string words_of(const std::exception_ptr& failure) {
  if (!failure) return "";
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return error.what();
  }
}

// An embedding may be infinite, or only beyond fp16, which the first layer's residual finds: whatever a
// sequence does alone, it does in company, with the same words, and nobody else notices.
TEST(Batch, ARowThatIsNotFiniteFailsItsOwnSequence) {
  const Model model("dtype=fp16");
  std::mt19937 random(5);
  std::vector<Rows> all;
  std::vector<std::string> words;
  for (int i = 0; i < 24; ++i) {
    all.push_back(model.random_rows(random, 1 + static_cast<int64_t>(random() % 12)));
    if (i == 3) all.back().embedded.back() = std::numeric_limits<float>::infinity();
    if (i % 5 == 1) all.back().embedded.front() = 1e30f;
    try {
      feed_alone(model, all.back());
      words.emplace_back();
    } catch (const Error& error) {
      words.emplace_back(error.what());
    }
  }
  EXPECT_NE(words[3].find("the embeddings"), std::string::npos) << words[3];
  const auto failed_in = [&](const char* what) {
    return std::count_if(words.begin(), words.end(), [&](const auto& w) { return w.find(what) != w.npos; });
  };
  ASSERT_GE(failed_in("decoder layer"), 3);
  ASSERT_GE(std::count(words.begin(), words.end(), ""), 3);
  std::vector<KvCache> caches;
  std::vector<Segment> segments;
  std::vector<float> hidden;
  for (const Rows& rows : all) caches.push_back(model.cache(rows.count));
  for (size_t i = 0; i < all.size(); ++i) {
    segments.push_back({&caches[i], all[i].count, all[i].positions(0, all[i].count)});
    hidden.insert(hidden.end(), all[i].embedded.begin(), all[i].embedded.end());
  }
  DecoderScratch scratch;
  for (const int64_t piece : {int64_t{0}, int64_t{7}}) {
    std::vector<float> rows = hidden;
    for (size_t i = 0; i < all.size(); ++i) {
      caches[i].truncate(0);
      segments[i].failure = nullptr;
    }
    model.decoder().forward(rows.data(), segments, scratch, {}, piece);
    const float* row = rows.data();
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(words_of(segments[i].failure), words[i]) << i;
      EXPECT_EQ(caches[i].tokens(), words[i].empty() ? all[i].count : 0);
      const auto count = static_cast<size_t>(all[i].count * model.width());
      EXPECT_TRUE(!words[i].empty() || same_bits({row, count}, all[i].hidden)) << i;
      row += count;
    }
  }
}

}  // namespace
}  // namespace fovea
