// The conversation page at `/`: files of the folder page/, which the program carries in itself.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "serve/http_message.h"

namespace fovea {

struct EmbeddedFile {
  const char* name;
  const unsigned char* bytes;
  size_t size;
};
std::span<const EmbeddedFile> embedded_files();  // made by cmake/embed.cmake

// "/", or a file that the page there names.
bool is_of_page(std::string_view path);
// What a browser gets for it; nothing for any other path. Its content security policy lets nothing run that
// is not a file of this page.
std::optional<HttpResponse> page_response(std::string_view path);

}  // namespace fovea
