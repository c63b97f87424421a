#include "text/text_file.h"

#include <fstream>
#include <system_error>

#include "base/error.h"

namespace fovea {
namespace {

constexpr uintmax_t kLargestFile = uintmax_t{256} << 20;  // the published tokenizer.json has 11 MB

}  // namespace

std::string read_text_file(const std::filesystem::path& path) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(path, failure)) {
    throw Error(ErrorKind::not_found, fmt::format("{}: no such file", path.string()),
                "give the folder of a complete checkpoint");
  }
  const uintmax_t size = std::filesystem::file_size(path, failure);
  if (failure)
    throw Error(ErrorKind::io, fmt::format("{}: {}", path.string(), failure.message()), "check the file");
  if (size > kLargestFile) {
    throw Error(ErrorKind::exhausted,
                fmt::format("{} has {} MiB, more than any known tokenizer", path.string(), size >> 20),
                "use the file that was published with the model");
  }
  std::string text(static_cast<size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    throw Error(ErrorKind::io, fmt::format("{}: cannot be read", path.string()),
                "check the file's permissions");
  }
  return text;
}

}  // namespace fovea
