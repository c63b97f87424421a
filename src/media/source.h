// Where a picture's bytes come from: a path, a file:// URL or a base64 data: URL. Never the network.
#pragma once

#include <string>
#include <string_view>

#include "base/buffer.h"

namespace fovea {

bool is_data_url(std::string_view source);
// How a source is named to people, in warnings, summaries and --json: data: URLs, megabytes of them, by their
// head alone; control characters spelled out.
std::string shown_source(std::string_view source);
// The bytes of a data: URL. Throws Error(corrupt) on anything that is not padded or unpadded base64.
Buffer<uint8_t> decode_data_url(std::string_view url);
// The path of a local source, file:// removed; throws Error when it is a network URL, missing, empty or no
// regular file.
std::string local_path(const std::string& source);
// All bytes of a source of either kind. Throws Error(unsupported) with the command that helps for a PDF.
Buffer<uint8_t> read_source(const std::string& source);
// The first `count` bytes of a local file, or fewer; empty when it cannot be read.
std::string head_of_file(const std::string& source, size_t count);

}  // namespace fovea
