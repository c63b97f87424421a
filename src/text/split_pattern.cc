#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/split_pattern.h"

#include <pcre2.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/reference_unicode.h"
#include "text/utf8.h"

namespace fovea {
namespace {

template <auto release>
struct Release {
  template <typename T>
  void operator()(T* pointer) const {
    release(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Release<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Release<pcre2_match_context_free>>;

constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr uint32_t kMinimumMatchLimit = 10'000'000;  // PCRE2's own default

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct SplitPattern::Compiled {
  Code code;
};

SplitPattern::SplitPattern(const std::string& expression) : compiled_(std::make_unique<Compiled>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                      nullptr));
  if (!compiled_->code) {
    throw Error(ErrorKind::unsupported,
                fmt::format("the pre-tokenizer's Regex cannot be compiled: {} at byte {}",
                            pcre2_message(error), offset),
                "use the tokenizer.json that was published with the model");
  }
  // Without executable memory the interpreter runs instead, with the same result.
  pcre2_jit_compile(compiled_->code.get(), PCRE2_JIT_COMPLETE);
}

SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;
SplitPattern::~SplitPattern() = default;

namespace {

// Finds the matches of one text; holds what a PCRE2 match needs besides the code.
class Matcher {
 public:
  Matcher(const pcre2_code* code, std::string_view subject)
      : code_(code),
        subject_(subject),
        data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)) {
    FOVEA_CHECK(data_ && context_);
    // A repeat that runs over the whole text and back takes about two steps per byte; 64 leaves ample room.
    const uint64_t limit = std::max<uint64_t>(kMinimumMatchLimit, subject.size() * uint64_t{64});
    pcre2_set_match_limit(context_.get(), static_cast<uint32_t>(std::min<uint64_t>(
                                              limit, std::numeric_limits<uint32_t>::max())));
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  // The next match at or after `from`, if there is one.
  bool find(size_t from, size_t& begin, size_t& end) {
    int result = match(from, PCRE2_NO_UTF_CHECK);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) {
      throw Error(ErrorKind::exhausted,
                  fmt::format("the pre-tokenizer's Regex gave up at byte {} of the text: {}", from,
                              pcre2_message(result)),
                  "shorten the text, or use the tokenizer.json that was published with the model");
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_.get());
    begin = range[0];
    end = std::max(range[0], range[1]);  // \K in a look-around may put the end before the start
    return true;
  }

 private:
  int match(size_t from, uint32_t options) {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(subject_.data()), subject_.size(), from, options,
                       data_.get(), context_.get());
  }

  const pcre2_code* code_;
  std::string_view subject_;
  MatchData data_;
  MatchContext context_;
};

}  // namespace

void SplitPattern::for_each_piece(std::string_view text,
                                  const std::function<void(std::string_view)>& piece) const {
  const std::string subject = with_reference_classes(text);
  Matcher matcher(compiled_->code.get(), subject);
  size_t done = 0;  // everything before it has been handed out
  const auto hand_out_until = [&](size_t end) {
    if (end > done) piece(text.substr(done, end - done));
    done = std::max(done, end);
  };
  for (size_t from = 0, begin = 0, end = 0; from < text.size() && matcher.find(from, begin, end);) {
    hand_out_until(begin);
    hand_out_until(end);
    from =
        end > from ? end : from + next_utf8(text.substr(from)).length;  // an empty match must not stand still
  }
  hand_out_until(text.size());
}

}  // namespace fovea
