#include "checkpoint/embedded_files.h"

#include <lzma.h>

#include <vector>

#include "base/error.h"

// Defined in embedded_files.S.in.
extern "C" {
extern const char fovea_tokenizer_xz[];
extern const char fovea_tokenizer_xz_end[];
extern const char fovea_chat_template[];
extern const char fovea_chat_template_end[];
}

namespace fovea {

std::string_view embedded_chat_template() {
  return {fovea_chat_template, static_cast<size_t>(fovea_chat_template_end - fovea_chat_template)};
}

void decompress_tokenizer(const std::function<void(std::string_view)>& write) {
  constexpr uint64_t kMaxMemory = uint64_t{256} << 20;
  lzma_stream stream = LZMA_STREAM_INIT;
  // The decoder needs a dictionary; the data itself is ours, so any other failure is a bug of the build.
  if (lzma_stream_decoder(&stream, kMaxMemory, 0) != LZMA_OK) {
    throw Error(ErrorKind::exhausted, "cannot allocate the xz decoder", "free some memory");
  }
  stream.next_in = reinterpret_cast<const uint8_t*>(fovea_tokenizer_xz);
  stream.avail_in = static_cast<size_t>(fovea_tokenizer_xz_end - fovea_tokenizer_xz);
  std::vector<uint8_t> piece(1 << 20);
  lzma_ret status = LZMA_OK;
  try {
    while (status == LZMA_OK) {
      stream.next_out = piece.data();
      stream.avail_out = piece.size();
      status = lzma_code(&stream, LZMA_FINISH);
      write({reinterpret_cast<const char*>(piece.data()), piece.size() - stream.avail_out});
    }
  } catch (...) {
    lzma_end(&stream);
    throw;
  }
  lzma_end(&stream);
  if (status == LZMA_MEM_ERROR) {
    throw Error(ErrorKind::exhausted, "cannot allocate the xz dictionary", "free some memory");
  }
  FOVEA_CHECK(status == LZMA_STREAM_END);
}

}  // namespace fovea
