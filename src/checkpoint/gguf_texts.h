// What GGUF files say about a model, as the small files of a Hugging Face folder say it. Everything behind
// reads these texts, and whoever writes a folder from a GGUF writes them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoint/gguf_file.h"

namespace fovea {

// `text`: the first file of the language model, `mmproj` the other; `tied`: there is no output.weight;
// `vocabulary`: rows of the embedding. Throws Error(unsupported | corrupt | invalid_argument) naming file and
// key: another architecture or projector, a tokenizer that is not Qwen2's, window attention that no
// Qwen2.5-VL has. What the files leave open is Qwen2.5-VL's own, and `notes` get a sentence about it.
struct GgufTexts {
  std::string config;              // config.json
  std::string preprocessor;        // preprocessor_config.json
  std::string generation;          // generation_config.json
  std::vector<std::string> notes;  // for people
};
GgufTexts gguf_texts(const GgufFile& text, const GgufFile& mmproj, bool tied, int64_t vocabulary,
                     DType dtype);

// vocab.json, merges.txt and tokenizer_config.json, which holds the chat template. Throws Error(unsupported |
// corrupt | exhausted) naming file and key.
std::map<std::string, std::string> gguf_tokenizer_texts(const GgufFile& text);

}  // namespace fovea
