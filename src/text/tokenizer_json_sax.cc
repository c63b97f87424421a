#include "text/tokenizer_json_sax.h"

#include <utility>
#include <vector>

#include "base/error.h"

namespace fovea {
namespace {

using nlohmann::json;

constexpr const char* kRemedy = "use the tokenizer.json that was published with the model";
constexpr size_t kDeepest = 64;  // a real file nests 5 deep

// The events of nlohmann's SAX interface; every function returns "go on".
class TokenizerSax {
 public:
  TokenizerSax(const std::string& file, TokenizerDefinition& definition)
      : file_(file), definition_(definition) {}
  json take_document() { return std::move(root_); }

  bool null() { return scalar(nullptr); }
  bool boolean(bool value) { return scalar(value); }
  bool number_integer(int64_t value) { return scalar(value); }
  bool number_float(double value, const std::string&) { return scalar(value); }
  bool binary(json::binary_t&) { return false; }  // not in JSON text

  bool number_unsigned(uint64_t value) {
    if (table_ != Table::vocabulary) return scalar(value);
    if (value > uint64_t{kLargestTokenId}) bad_vocabulary_entry();
    definition_.vocabulary.emplace_back(std::move(key_), static_cast<int32_t>(value));
    return true;
  }

  bool string(std::string& value) {
    if (table_ == Table::merges) {
      add_merge_text(value);
    } else if (table_ == Table::merge_pair) {
      pair_.push_back(std::move(value));
      if (pair_.size() > 2) bad_merge();
    } else {
      return scalar(std::move(value));
    }
    return true;
  }

  bool key(std::string& value) {
    key_ = std::move(value);
    return true;
  }

  bool start_object(size_t) {
    if (table_ != Table::none) return scalar(nullptr);
    const bool is_vocabulary = is_in_model() && key_ == "vocab";
    open(json::object());
    if (is_vocabulary) table_ = Table::vocabulary;
    return true;
  }
  bool end_object() { return close(); }

  bool start_array(size_t) {
    if (table_ == Table::merges) {
      table_ = Table::merge_pair;
      pair_.clear();
      return true;
    }
    if (table_ != Table::none) return scalar(nullptr);
    const bool is_merges = is_in_model() && key_ == "merges";
    open(json::array());
    if (is_merges) table_ = Table::merges;
    return true;
  }

  bool end_array() {
    if (table_ != Table::merge_pair) return close();
    if (pair_.size() != 2) bad_merge();
    definition_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
    table_ = Table::merges;
    return true;
  }

  template <typename Exception>
  bool parse_error(size_t, const std::string&, const Exception& error) {
    throw Error(ErrorKind::corrupt, fmt::format("{} is not valid JSON: {}", file_, error.what()),
                "copy the file again; it may be truncated");
  }

 private:
  enum class Table { none, vocabulary, merges, merge_pair };

  [[noreturn]] void bad_vocabulary_entry() const {
    throw Error(
        ErrorKind::corrupt,
        fmt::format("{}: model.vocab[\"{}\"] is not a token id from 0 to {}", file_, key_, kLargestTokenId),
        kRemedy);
  }
  [[noreturn]] void bad_merge() const {
    throw Error(ErrorKind::corrupt,
                fmt::format("{}: model.merges[{}] is neither \"a b\" nor [\"a\", \"b\"]", file_,
                            definition_.merges.size()),
                kRemedy);
  }

  void add_merge_text(const std::string& text) {
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) bad_merge();
    definition_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }

  // The innermost open value is the object at the root's key "model".
  bool is_in_model() const {
    return open_.size() == 2 && root_.contains("model") && open_[1] == &root_["model"];
  }

  bool scalar(json value) {
    if (table_ == Table::vocabulary) bad_vocabulary_entry();
    if (table_ != Table::none) bad_merge();
    place(std::move(value));
    return true;
  }

  json* place(json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    json& parent = *open_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }

  void open(json value) {
    if (open_.size() == kDeepest) {
      throw Error(ErrorKind::corrupt, fmt::format("{} nests more than {} levels deep", file_, kDeepest),
                  kRemedy);
    }
    open_.push_back(place(std::move(value)));
  }

  bool close() {
    table_ = Table::none;
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  TokenizerDefinition& definition_;
  json root_;
  std::vector<json*> open_;  // from the root to the innermost; only the innermost grows, so the pointers hold
  std::string key_;
  Table table_ = Table::none;
  std::vector<std::string> pair_;
};

}  // namespace

json read_tokenizer_document(std::string_view text, const std::string& file,
                             TokenizerDefinition& definition) {
  TokenizerSax sax(file, definition);
  json::sax_parse(text, &sax);
  return sax.take_document();
}

}  // namespace fovea
