// Goal: encode and decode give what Hugging Face tokenizers gives, on every line of the golden corpus.
// Method: exact comparison with goldens of tools/make_tokenizer_goldens.py; round trips against our own NFC.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>

#include "text/golden_files_testing.h"
#include "text/nfc.h"
#include "text/utf8.h"

namespace fovea {
namespace {

struct Row {
  std::string text;
  std::vector<int32_t> ids;
};

// Reads one section: u32 lines, u32 tokens, u32 bytes; text lengths and token counts in two byte planes;
// text; ids in three byte planes.
class GoldenReader {
 public:
  explicit GoldenReader(std::string data) : data_(std::move(data)) {}

  std::vector<Row> section() {
    const uint32_t lines = u32(), tokens = u32(), bytes = u32();
    const std::vector<uint32_t> lengths = planes(lines, 2), counts = planes(lines, 2);
    const std::string text = take(bytes);
    const std::vector<uint32_t> ids = planes(tokens, 3);
    std::vector<Row> rows(lines);
    size_t text_at = 0, id_at = 0;
    for (size_t i = 0; i < lines; ++i) {
      rows[i].text = text.substr(text_at, lengths[i]);
      rows[i].ids.assign(ids.begin() + static_cast<ptrdiff_t>(id_at),
                         ids.begin() + static_cast<ptrdiff_t>(id_at + counts[i]));
      text_at += lengths[i];
      id_at += counts[i];
    }
    EXPECT_EQ(text_at, bytes);
    EXPECT_EQ(id_at, tokens);
    return rows;
  }

 private:
  std::string take(size_t size) {
    const std::string part = data_.substr(at_, size);
    EXPECT_EQ(part.size(), size);
    at_ += size;
    return part;
  }
  uint32_t u32() {
    uint32_t value = 0;
    std::memcpy(&value, take(4).data(), 4);
    return value;
  }
  std::vector<uint32_t> planes(size_t count, int width) {
    std::vector<uint32_t> numbers(count);
    for (int plane = 0; plane < width; ++plane) {
      const std::string bytes = take(count);
      for (size_t i = 0; i < count; ++i)
        numbers[i] |= uint32_t{static_cast<uint8_t>(bytes[i])} << (8 * plane);
    }
    return numbers;
  }

  std::string data_;
  size_t at_ = 0;
};

GoldenReader open_goldens() {
  return GoldenReader(unpacked_repository_file("tests/data/tokenizer/goldens.bin.xz"));
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder stream(tokenizer);
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = stream.push(id);
    EXPECT_EQ(incomplete_utf8_tail(part), 0u);
    EXPECT_EQ(replace_malformed_utf8(part), part) << "half a character was emitted";
    text += part;
  }
  return text + stream.finish();
}

TEST(TokenizerGolden, EveryLineHasTheReferenceIdsAndTheExactRoundTrip) {
  const Tokenizer tokenizer = open_qwen_tokenizer();
  const std::vector<Row> rows = open_goldens().section();
  ASSERT_GE(rows.size(), 20000u);
  size_t wrong = 0;
  for (size_t i = 0; i < rows.size() && wrong < 5; ++i) {
    const std::vector<int32_t> ids = tokenizer.encode(rows[i].text);
    if (ids != rows[i].ids) ++wrong;
    EXPECT_EQ(ids, rows[i].ids) << "line " << i << ": " << rows[i].text;
  }
}

// NFC is applied between added tokens only, so the text is cut at them before it is compared.
TEST(TokenizerGolden, DecodingGivesTheNormalisedTextBack) {
  const Tokenizer tokenizer = open_qwen_tokenizer();
  std::vector<std::string> added;
  for (int32_t id = 151643; id < tokenizer.size(); ++id) added.emplace_back(tokenizer.token_bytes(id));
  const auto normal_form = [&](const std::string& text) {
    std::string result;
    for (size_t done = 0, at = 0; done < text.size();) {
      const auto begins = [&](const std::string& token) {
        return text.compare(at, token.size(), token) == 0;
      };
      const auto token = std::find_if(added.begin(), added.end(), begins);
      if (token == added.end() && ++at < text.size()) continue;
      result += nfc(std::string_view(text).substr(done, at - done));
      if (token != added.end()) result += *token, at += token->size();
      done = at;
    }
    return result;
  };
  for (const Row& row : open_goldens().section()) {
    const std::string text = replace_malformed_utf8(row.text);
    ASSERT_EQ(tokenizer.decode(row.ids, false), normal_form(text)) << row.text;
  }
}

TEST(TokenizerGolden, DecodesAnyIdsAsTheReference) {
  const Tokenizer tokenizer = open_qwen_tokenizer();
  GoldenReader goldens = open_goldens();
  goldens.section();
  const std::vector<Row> rows = goldens.section();
  ASSERT_GE(rows.size(), 2000u);
  for (size_t i = 0; i < rows.size(); i += 2) {
    ASSERT_EQ(tokenizer.decode(rows[i].ids, false), rows[i].text) << i;
    ASSERT_EQ(tokenizer.decode(rows[i].ids, true), rows[i + 1].text) << i;
  }
}

TEST(StreamDecoder, IsDecodeForAnyIds) {
  const Tokenizer tokenizer = open_qwen_tokenizer();
  GoldenReader goldens = open_goldens();
  for (int section = 0; section < 2; ++section) {
    for (const Row& row : goldens.section()) {
      ASSERT_EQ(streamed(tokenizer, row.ids), tokenizer.decode(row.ids, true));
    }
  }
  std::mt19937 random(7);  // std::mt19937 gives the same numbers everywhere
  for (int i = 0; i < 20000; ++i) {
    std::vector<int32_t> ids(random() % 12);
    // Single bytes make malformed sequences of every kind; ids outside the vocabulary add nothing.
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random() % (random() % 2 ? 256 : 151800)) - (random() % 50 == 0);
    ASSERT_EQ(streamed(tokenizer, ids), tokenizer.decode(ids, true));
  }
}

TEST(Tokenizer, LongRunsTakeNearLinearTime) {
  const Tokenizer tokenizer = open_qwen_tokenizer();
  const auto seconds = [&](const std::string& text) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<int32_t> ids = tokenizer.encode(text);
    const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_EQ(tokenizer.decode(ids, false), nfc(text));
    return passed;
  };
  for (const std::string part :
       {"a", " ", "\n", "!", "ab", " \n", "é", "字", "\u0301\u0316", "'s", "<|im_end|", "0", "\r\n "}) {
    std::string text;
    while (text.size() < (1 << 20)) text += part;
    // Far above linear (some 0.3 s), far below quadratic (hours); slack for sanitizers and busy machines.
    EXPECT_LT(seconds(text), 30) << part;
  }
}

}  // namespace
}  // namespace fovea
