// Bytes as a source of a message: whatever decodes it gets memory.
#pragma once

#include <string>
#include <string_view>

namespace fovea {

// "data:application/octet-stream;base64,...". Any thread.
std::string data_url(std::string_view bytes);

}  // namespace fovea
