// Compressed files of the repository, and the published tokenizer opened from its own.
#pragma once

#include <gtest/gtest.h>
#include <lzma.h>

#include <fstream>
#include <iterator>
#include <string>

#include "base/temporary_folder_testing.h"
#include "text/tokenizer.h"

namespace fovea {

// A file below the source folder, whole.
inline std::string repository_file(const std::string& name) {
  std::ifstream file(std::string(FOVEA_SOURCE_DIR "/") + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

// The same, with .xz taken off.
inline std::string unpacked_repository_file(const std::string& name) {
  const std::string packed = repository_file(name);
  lzma_stream stream = LZMA_STREAM_INIT;
  EXPECT_EQ(lzma_stream_decoder(&stream, UINT64_MAX, 0), LZMA_OK);
  stream.next_in = reinterpret_cast<const uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  std::string text, chunk(1 << 20, '\0');
  lzma_ret result = LZMA_OK;
  while (result == LZMA_OK) {
    stream.next_out = reinterpret_cast<uint8_t*>(chunk.data());
    stream.avail_out = chunk.size();
    result = lzma_code(&stream, LZMA_FINISH);
    text.append(chunk, 0, chunk.size() - stream.avail_out);
  }
  lzma_end(&stream);
  EXPECT_EQ(result, LZMA_STREAM_END) << name;
  return text;
}

inline Tokenizer open_qwen_tokenizer() {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", unpacked_repository_file("models/qwen-tokenizer/tokenizer.json.xz"));
  return Tokenizer::open(folder.path());
}

}  // namespace fovea
