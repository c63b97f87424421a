#include "text/tool_call_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "text/ordered_json.h"
#include "text/tool_messages.h"

namespace fovea {

namespace {

constexpr std::string_view kBegin = kToolCallBegin, kEnd = kToolCallEnd, kSpace = " \t\r\n";

// How much of the end of `text` is the beginning of `mark`.
size_t begun(std::string_view text, std::string_view mark) {
  for (size_t length = std::min(text.size(), mark.size() - 1); length > 0; --length) {
    if (text.ends_with(mark.substr(0, length))) return length;
  }
  return 0;
}

// {"name": "...", "arguments": up to the brace that opens them.
struct Head {
  enum class Kind { whole, unfinished, other };
  Kind kind = Kind::unfinished;
  std::string name = {};
  size_t length = 0;
};

Head head_of(std::string_view text) {
  size_t at = 0;
  const auto skip_space = [&] { at = std::min(text.find_first_not_of(kSpace, at), text.size()); };
  // Nothing: the text ends within the mark.
  const auto takes = [&](std::string_view mark) -> std::optional<bool> {
    skip_space();
    const std::string_view here = text.substr(at, mark.size());
    if (here == mark) {
      at += mark.size();
      return true;
    }
    return mark.starts_with(here) ? std::nullopt : std::optional(false);
  };
  const auto ended = [&](const std::optional<bool>& taken) {
    return Head{taken ? Head::Kind::other : Head::Kind::unfinished};
  };
  for (const char* mark : {"{", "\"name\"", ":"}) {
    if (const auto taken = takes(mark); taken != true) return ended(taken);
  }
  skip_space();
  if (at == text.size()) return {};
  if (text[at] != '"') return {Head::Kind::other};
  size_t end = at + 1;
  while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
  if (end >= text.size()) return {};
  const auto name = nlohmann::json::parse(text.substr(at, end + 1 - at), nullptr, false);
  if (!name.is_string()) return {Head::Kind::other};
  at = end + 1;
  for (const char* mark : {",", "\"arguments\"", ":", "{"}) {
    if (const auto taken = takes(mark); taken != true) return ended(taken);
  }
  return {Head::Kind::whole, name.get<std::string>(), at - 1};
}

}  // namespace

void ToolCallReader::push(std::string_view text) {
  rest_ += text;
  while (advance()) {
  }
}

// False where more text is needed.
bool ToolCallReader::advance() {
  switch (state_) {
    case State::words:
      return read_words();
    case State::head:
      return read_head();
    case State::arguments:
      return read_arguments();
    case State::tail:
      return read_tail();
  }
  return false;
}

void ToolCallReader::say(std::string_view words) {
  if (words.empty()) return;
  if (events_.content) events_.content(words);
}

// White space is held back until it is known whether a call follows.
bool ToolCallReader::read_words() {
  const size_t call = rest_.find(kBegin);
  const bool found = call != std::string::npos;
  const size_t sure = found ? call : rest_.size() - begun(rest_, kBegin);
  const std::string_view words = std::string_view(rest_).substr(0, sure);
  const size_t last = words.find_last_not_of(kSpace);
  if (last == std::string_view::npos) {
    space_ += words;
  } else {
    say(space_ + std::string(words.substr(0, last + 1)));
    space_ = words.substr(last + 1);
  }
  rest_.erase(0, found ? call + kBegin.size() : sure);
  if (!found) return false;
  state_ = State::head;
  return true;
}

void ToolCallReader::begin(const std::string& name) {
  space_.clear();
  if (events_.begin) events_.begin(calls_, name);
  ++calls_;
}

// A call with its fields in another order or with arguments in a string is taken when it has ended.
bool ToolCallReader::read_head() {
  const Head head = head_of(rest_);
  if (head.kind == Head::Kind::whole) {
    begin(head.name);
    rest_.erase(0, head.length);
    depth_ = 0;
    in_string_ = escaped_ = false;
    state_ = State::arguments;
    return true;
  }
  const size_t end = rest_.find(kEnd);
  if (end == std::string::npos) return false;
  if (!take_whole_call(std::string_view(rest_).substr(0, end))) {
    say(space_ + std::string(kBegin) + rest_.substr(0, end + kEnd.size()));
    space_.clear();
  }
  rest_.erase(0, end + kEnd.size());
  state_ = State::words;
  return true;
}

// Within the bounds of what is read in order: whoever asks can make a model nest without end.
bool ToolCallReader::take_whole_call(std::string_view body) {
  OrderedJson call;
  try {
    call = parse_ordered_json(body, "the call");
  } catch (const Error&) {
    return false;
  }
  if (!call.is_object() || !call.contains("name") || !call.at("name").is_string()) return false;
  begin(call.at("name").get<std::string>());
  std::string arguments = "{}";
  if (call.contains("arguments")) {
    const auto& stated = call.at("arguments");
    arguments = stated.is_string() ? stated.get<std::string>() : stated.dump();
  }
  if (events_.arguments) events_.arguments(calls_ - 1, arguments);
  return true;
}

bool ToolCallReader::read_arguments() {
  size_t at = 0;
  bool whole = false;
  for (; at < rest_.size() && !whole; ++at) {
    const char c = rest_[at];
    if (in_string_) {
      if (!escaped_ && c == '"') in_string_ = false;
      escaped_ = !escaped_ && c == '\\';
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      whole = --depth_ == 0;
    }
  }
  if (at > 0 && events_.arguments) events_.arguments(calls_ - 1, std::string_view(rest_).substr(0, at));
  rest_.erase(0, at);
  if (whole) state_ = State::tail;
  return whole;
}

// Whatever stands between the arguments and the end of the call says nothing.
bool ToolCallReader::read_tail() {
  const size_t end = rest_.find(kEnd);
  if (end == std::string::npos) {
    rest_.erase(0, rest_.size() - begun(rest_, kEnd));
    return false;
  }
  rest_.erase(0, end + kEnd.size());
  state_ = State::words;
  return true;
}

void ToolCallReader::finish() {
  if (state_ == State::words) {
    if (calls_ == 0 || !rest_.empty()) say(space_ + rest_);  // white space behind the last call is none
  } else if (state_ == State::head && !take_whole_call(rest_)) {
    say(space_ + std::string(kBegin) + rest_);
  }
  rest_.clear();
  space_.clear();
}

}  // namespace fovea
