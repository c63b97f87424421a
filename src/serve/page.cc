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

std::string path_of(const EmbeddedFile& file) {
  const std::string name = file.name;
  return name == "index.html" ? "/" : "/" + name;
}

// Null for a path that is not the page's.
const EmbeddedFile* file_at(std::string_view path) {
  const auto files = embedded_files();
  const auto file = std::ranges::find(files, path, path_of);
  return file != files.end() ? &*file : nullptr;
}

}  // namespace

bool is_of_page(std::string_view path) { return file_at(path) != nullptr; }

std::optional<HttpResponse> page_response(std::string_view path) {
  const EmbeddedFile* file = file_at(path);
  if (file == nullptr) return std::nullopt;
  HttpResponse response;
  response.content_type = type_of(file->name);
  response.headers = {{"Content-Security-Policy", kPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}};
  response.body.assign(reinterpret_cast<const char*>(file->bytes), file->size);
  return response;
}

}  // namespace fovea
