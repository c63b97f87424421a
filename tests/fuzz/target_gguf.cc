// The two GGUF files of a model, behind one another: four bytes say how long the first is. Every byte that a
// tensor claims is there, and the texts that the keys become are ones that their readers take or refuse.
#include <algorithm>
#include <cstring>

#include "checkpoint/checkpoint.h"
#include "scratch.h"
#include "target.h"
#include "text/tokenizer.h"
#include "text/tokenizer_definition.h"

FOVEA_FUZZ_TARGET(gguf) {
  static const fovea::fuzz::Scratch scratch;
  uint32_t length = 0;
  if (bytes.size() < sizeof length) return;
  std::memcpy(&length, bytes.data(), sizeof length);
  bytes.remove_prefix(sizeof length);
  const size_t cut = std::min<size_t>(length, bytes.size());
  const auto model = scratch.write("model.gguf", bytes.substr(0, cut)),
             mmproj = scratch.write("mmproj.gguf", bytes.substr(cut));
  const auto checkpoint = fovea::Checkpoint::open(fovea::ModelFiles(model, mmproj));
  unsigned sum = 0;
  for (const fovea::TensorInfo& tensor : checkpoint.tensors()) {
    const bool blocks = tensor.format == fovea::WeightFormat::blocks;
    const auto* data = static_cast<const unsigned char*>(blocks ? tensor.parts.values : tensor.data);
    for (int64_t i = 0; i < tensor.bytes(); ++i) sum += data[i];
  }
  volatile unsigned kept = sum;  // or the loads would be left out
  (void)kept;
  const auto texts = checkpoint.folder_texts();
  const fovea::TokenizerTexts tokenizer{texts.at("vocab.json"), texts.at("merges.txt"),
                                        texts.at("tokenizer_config.json")};
  fovea::Tokenizer::of_texts(tokenizer, "model.gguf: ");
}
