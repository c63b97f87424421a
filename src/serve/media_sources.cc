#include "serve/media_sources.h"

#include "api/media_address.h"
#include "api/source_rules.h"
#include "base/field_error.h"
#include "text/data_url.h"

namespace fovea {
namespace {

// for_each_source() may change what it shows; this does not.
template <class Visit>
void look_at_sources(const std::vector<Message>& messages, const Visit& visit) {
  for_each_source(const_cast<std::vector<Message>&>(messages),
                  [&](const std::string& source, const std::string& where) { visit(source, where); });
}

}  // namespace

MediaCount count_media(const std::vector<Message>& messages) {
  MediaCount count;
  look_at_sources(messages, [&](const std::string& source, const std::string&) {
    ++count.sources;
    if (is_network_source(source)) ++count.network;
  });
  return count;
}

void limit_media(const std::vector<Message>& messages, int64_t most) {
  int64_t count = 0;
  look_at_sources(messages, [&](const std::string&, const std::string& where) {
    if (++count <= most) return;
    throw FieldError(ErrorKind::exhausted, where,
                     fmt::format("is more than the {} pictures of a request", most),
                     "send fewer pictures and frames");
  });
}

void fetch_media(std::vector<Message>& messages, const FetchRules& rules) {
  int64_t left = rules.bytes;
  for_each_source(messages, [&](std::string& source, const std::string& where) {
    if (!is_network_source(source)) return;
    FetchRules rest = rules;
    rest.bytes = left;
    const std::string bytes = fetch_https(parse_media_address(source, where), rest, where);
    left -= static_cast<int64_t>(bytes.size());
    source = data_url(bytes);
  });
}

}  // namespace fovea
