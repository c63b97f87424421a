// Which pictures and videos a request may name: what somebody sends must not open whatever file this process
// can read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace fovea {

struct SourceRules {
  enum class Kind {
    data_urls,  // what the request itself carries
    folders,    // also files below `folders`
    any_file,   // whatever the user may read, who runs the program himself
  };
  Kind kind = Kind::data_urls;
  // Links in their names are resolved. (vLLM: --allowed-local-media-path.)
  std::vector<std::filesystem::path> folders = {};
  // Where relative paths begin; empty: they are refused, but with any_file begin where the process runs.
  std::filesystem::path relative_to = {};
  // Whose https:// addresses are admitted besides, "host" or "host:port" (vLLM: --allowed-media-domains);
  // what fetches them looks where they lead (api/media_address.h has their form).
  std::vector<std::string> domains = {};
};

// Whether it is an address that must be fetched.
bool is_network_source(const std::string& source);

// The source as it may be opened: a data: URL as it is, a file as an absolute path or, with any_file, as a
// file:// URL. With `folders` a path is
// followed through its links to the file itself, which is what the result names; it is the owner's affair
// that nobody else exchanges files in there. Throws FieldError(invalid_argument | unsupported) at `field`.
// Whether a file outside the folders exists cannot be told from the error. Network addresses are refused but
// those of `domains`, which stay as they are. Any thread.
std::string admitted_source(const std::string& source, const SourceRules& rules, const std::string& field);

}  // namespace fovea
