#include "media/source.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "base/percent_decoded.h"
#include "base/printable.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFileBytesMax = int64_t{1} << 30;

constexpr std::array<int8_t, 256> base64_values() {
  std::array<int8_t, 256> values{};
  values.fill(-1);
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<uint8_t>(kAlphabet[i])] = static_cast<int8_t>(i);
  return values;
}

[[noreturn]] void bad_base64(std::string what) {
  throw Error(ErrorKind::corrupt, "data: URL: " + std::move(what),
              "send data:image/...;base64, followed by complete base64 of the file");
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return path.find('\0') == path.npos && fs::exists(path, ignored);
}

// The path as a POSIX shell takes it for one word.
std::string shell_word(const std::string& path) {
  std::string word = "'";
  for (const char c : path) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

void refuse_pdf(std::span<const uint8_t> bytes, const std::string& file) {
  constexpr std::string_view kMagic = "%PDF-";
  if (bytes.size() < kMagic.size() || !std::equal(kMagic.begin(), kMagic.end(), bytes.begin())) return;
  throw Error(ErrorKind::unsupported, "a PDF is not a picture",
              fmt::format("make pictures of its pages: pdftoppm -r 150 -png {} page (package poppler-utils), "
                          "and give page-1.png and so on",
                          file));
}

}  // namespace

std::string shown_source(std::string_view source) {
  constexpr size_t kHead = 40;
  if (!is_data_url(source) || source.size() <= kHead) return printable(source);
  return fmt::format("{}... ({} characters)", printable(source.substr(0, kHead)), source.size());
}

bool is_data_url(std::string_view source) { return source.starts_with("data:"); }

Buffer<uint8_t> decode_data_url(std::string_view url) {
  static constexpr auto kValues = base64_values();
  const size_t comma = url.find(',');
  if (comma == url.npos) bad_base64("no comma between its media type and its data");
  if (!url.substr(0, comma).ends_with(";base64")) bad_base64("not marked ;base64");
  const std::string_view text = url.substr(comma + 1);
  Buffer<uint8_t> bytes(static_cast<int64_t>(text.size() / 4 * 3 + 3));
  int64_t count = 0;
  size_t digits = 0, padding = 0;
  uint32_t bits = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    const int8_t value = kValues[static_cast<uint8_t>(c)];
    if (value < 0) bad_base64(fmt::format("byte 0x{:02x} is not base64", static_cast<uint8_t>(c)));
    if (padding > 0) bad_base64("characters after the padding");
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++digits % 4 != 1) bytes[count++] = static_cast<uint8_t>(bits >> (4 - digits % 4) % 4 * 2);
  }
  if (digits % 4 == 1 || padding > 2 || (padding > 0 && (digits + padding) % 4 != 0)) {
    bad_base64("the base64 is cut off");
  }
  if (count == 0) bad_base64("no data");
  Buffer<uint8_t> exact(count);
  std::copy_n(bytes.data(), count, exact.data());
  return exact;
}

std::string local_path(const std::string& source) {
  std::string path = source;
  if (path.starts_with("file://")) {
    path.erase(0, 7);
    if (!exists(path)) path = percent_decoded(path);
  } else if (path.starts_with("http://") || path.starts_with("https://")) {
    throw Error(ErrorKind::unsupported, "network addresses are not opened",
                "download the file and give its path");
  }
  if (!exists(path)) throw Error(ErrorKind::not_found, "no such file", "check the path");
  std::error_code failure;
  if (!fs::is_regular_file(path, failure)) {
    throw Error(ErrorKind::invalid_argument,
                fs::is_directory(path, failure) ? "is a directory" : "not a regular file",
                "give the path of one picture or video file");
  }
  if (fs::file_size(path, failure) == 0) {
    throw Error(ErrorKind::corrupt, "the file is empty", "check how the file was written");
  }
  return path;
}

std::string head_of_file(const std::string& source, size_t count) {
  std::string head(count, '\0');
  std::ifstream file(local_path(source), std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(count));
  head.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return head;
}

Buffer<uint8_t> read_source(const std::string& source) {
  if (is_data_url(source)) {
    Buffer<uint8_t> bytes = decode_data_url(source);
    refuse_pdf(bytes.span(), "FILE.pdf");
    return bytes;
  }
  const std::string path = local_path(source);
  std::error_code failure;
  const auto size = fs::file_size(path, failure);
  if (failure || size > static_cast<uintmax_t>(kFileBytesMax)) {
    throw Error(ErrorKind::exhausted, fmt::format("the file has {} bytes, more than {}", size, kFileBytesMax),
                "give a smaller file");
  }
  Buffer<uint8_t> bytes(static_cast<int64_t>(size));
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), bytes.size())) {
    throw Error(ErrorKind::io, "the file cannot be read", "check its permissions");
  }
  refuse_pdf(bytes.span(), shell_word(path));
  return bytes;
}

}  // namespace fovea
