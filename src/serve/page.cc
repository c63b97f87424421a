#include "serve/page.h"

#include <algorithm>
#include <string>
#include <utility>

namespace fovea {

namespace {

// Pictures and videos that a person drops are data: URLs, and those the browser makes of them blob: ones.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src data: "
    "blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const char* type_of(std::string_view name) {
  constexpr std::pair<std::string_view, const char*> kTypes[] = {{".html", "text/html; charset=utf-8"},
                                                                 {".css", "text/css; charset=utf-8"},
                                                                 {".js", "text/javascript; charset=utf-8"},
                                                                 {".svg", "image/svg+xml"}};
  const auto* found =
      std::ranges::find_if(kTypes, [&](const auto& type) { return name.ends_with(type.first); });
  return found->second;
}

}  // namespace

std::optional<HttpResponse> page_response(std::string_view path) {
  if (!path.starts_with('/')) return std::nullopt;
  const std::string_view name = path == "/" ? "index.html" : path.substr(1);
  const auto files = embedded_files();
  const auto file =
      std::ranges::find(files, name, [](const EmbeddedFile& f) { return std::string_view(f.name); });
  if (file == files.end()) return std::nullopt;
  HttpResponse response;
  response.content_type = type_of(name);
  response.headers = {{"Content-Security-Policy", kPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}};
  response.body.assign(reinterpret_cast<const char*>(file->bytes), file->size);
  return response;
}

}  // namespace fovea
