#include "api/source_rules.h"

#include <algorithm>

#include "api/media_address.h"
#include "base/field_error.h"
#include "base/percent_decoded.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileUrl = "file://";

// "http" of "HTTP://host"; empty when the source begins with no scheme of an address.
std::string scheme_of(const std::string& source) {
  const size_t end = source.find("://");
  if (end == source.npos) return {};
  std::string scheme = source.substr(0, end);
  for (char& c : scheme) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  const bool plain = std::all_of(scheme.begin(), scheme.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  return plain ? scheme : std::string();
}

bool is_below(const fs::path& file, const fs::path& folder) {
  const auto [at, rest] = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  // A folder written with a slash at its end has an empty last part.
  return at == folder.end() || (at->empty() && std::next(at) == folder.end());
}

std::string admitted_address(const std::string& source, const std::vector<std::string>& domains,
                             const std::string& field) {
  const MediaAddress address = parse_media_address(source, field);
  if (!is_allowed(address, domains)) {
    throw FieldError(ErrorKind::invalid_argument, field, "is of a host that is not allowed",
                     "send the picture as a data:image/...;base64, URL, or ask whoever runs this service to "
                     "allow the host");
  }
  return source;
}

std::string file_within(const fs::path& path, const std::vector<fs::path>& folders,
                        const std::string& field) {
  std::error_code failure;
  const fs::path file = fs::canonical(path, failure);
  for (const fs::path& folder : folders) {
    std::error_code absent;
    const fs::path real = fs::canonical(folder, absent);
    if (!failure && !absent && is_below(file, real)) return file.string();
  }
  throw FieldError(
      ErrorKind::invalid_argument, field, "names no file within the folders that are allowed",
      "send the picture as a data:image/...;base64, URL, or put the file into an allowed folder");
}

}  // namespace

bool is_network_source(const std::string& source) {
  const std::string scheme = scheme_of(source);
  return scheme == "http" || scheme == "https";
}

std::string admitted_source(const std::string& source, const SourceRules& rules, const std::string& field) {
  if (source.starts_with("data:")) return source;
  const std::string scheme = scheme_of(source);
  if (is_network_source(source) && !rules.domains.empty()) {
    return admitted_address(source, rules.domains, field);
  }
  if (!scheme.empty() && scheme != "file") {
    throw FieldError(ErrorKind::unsupported, field, "is an address of the scheme " + scheme.substr(0, 20),
                     "download the file, and send it as a data:...;base64, URL");
  }
  if (rules.kind == SourceRules::Kind::data_urls) {
    throw FieldError(ErrorKind::invalid_argument, field, "is a local file, which this service does not open",
                     "send the picture as a data:image/...;base64, URL");
  }
  if (rules.kind == SourceRules::Kind::any_file && !scheme.empty())
    return source;  // its reader knows escapes
  const std::string name = scheme.empty() ? source : percent_decoded(source.substr(kFileUrl.size()));
  if (name.find('\0') != name.npos)
    throw FieldError(ErrorKind::invalid_argument, field, "holds a NUL character", "give a path");
  fs::path path = name;
  if (path.is_relative()) {
    if (!rules.relative_to.empty()) {
      path = rules.relative_to / path;
    } else if (rules.kind == SourceRules::Kind::folders) {
      throw FieldError(ErrorKind::invalid_argument, field, "is no absolute path",
                       "give the whole path of the file");
    }
  }
  if (rules.kind == SourceRules::Kind::folders) return file_within(path, rules.folders, field);
  std::error_code failure;
  const fs::path absolute = fs::absolute(path, failure);
  return (failure ? path : absolute).lexically_normal().string();
}

}  // namespace fovea
