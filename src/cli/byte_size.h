// Amounts of memory as people write and read them: "8G", "512M", "1.5GiB", plain bytes; "7.51 GB".
#pragma once

#include <cstdint>
#include <string>

namespace fovea {

// K, M, G, T are powers of 1000 and Ki, Mi, Gi, Ti of 1024, each with or without a final B. Throws
// Error(invalid_argument) naming the flag.
int64_t parse_bytes(const std::string& text, const std::string& flag);

}  // namespace fovea
