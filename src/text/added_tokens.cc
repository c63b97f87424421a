#include "text/added_tokens.h"

#include <algorithm>

#include "text/utf8.h"

namespace fovea {
namespace {

uint8_t first_byte(std::string_view text) { return static_cast<uint8_t>(text[0]); }

// Unicode's White_Space property, which the reference strips around lstrip and rstrip tokens.
bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t white_space_at_start(std::string_view text) {
  size_t end = 0;
  for (size_t length = 0; end < text.size(); end += length) {
    if (!is_white_space(decode_utf8(text.substr(end), length))) break;
  }
  return end;
}

size_t white_space_at_end(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    size_t start = begin - 1, length = 0;
    while ((static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (!is_white_space(decode_utf8(text.substr(start), length))) break;
    begin = start;
  }
  return text.size() - begin;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    if (first_byte(a.content) != first_byte(b.content)) return first_byte(a.content) < first_byte(b.content);
    return a.content.size() > b.content.size();
  });
  for (const AddedToken& token : tokens_) ++first_byte_begin_[first_byte(token.content) + size_t{1}];
  for (size_t byte = 1; byte <= 256; ++byte) first_byte_begin_[byte] += first_byte_begin_[byte - 1];
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text) const {
  const size_t byte = first_byte(text);
  for (uint32_t i = first_byte_begin_[byte]; i < first_byte_begin_[byte + 1]; ++i) {
    if (text.starts_with(tokens_[i].content)) return &tokens_[i];
  }
  return nullptr;
}

void AddedTokenFinder::cut(std::string_view text, const std::function<void(int32_t)>& token,
                           const std::function<void(std::string_view)>& plain) const {
  size_t done = 0;  // everything before it has been handed out
  for (size_t at = 0; at < text.size();) {
    const AddedToken* found = longest_at(text.substr(at));
    if (!found) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + found->content.size();
    if (found->lstrip) begin -= white_space_at_end(text.substr(done, begin - done));
    if (found->rstrip) end += white_space_at_start(text.substr(end));
    if (begin > done) plain(text.substr(done, begin - done));
    token(found->id);
    done = at = end;
  }
  if (done < text.size()) plain(text.substr(done));
}

}  // namespace fovea
