// A model in GGUF files as a checkpoint sees it: texts like those of a Hugging Face folder, and tensors under
// the names and in the shapes that transformers gives them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_texts.h"

namespace fovea {

class GgufModel {
 public:
  // `files` as resolved() gave them. Maps all parts. Throws Error naming file and tensor or key.
  explicit GgufModel(const ModelFiles& files);

  const GgufTexts& texts() const { return texts_; }
  // The small files of a folder with this model, by name, but config.json. Made when asked for.
  std::map<std::string, std::string> other_texts() const;

  // Canonical names; nothing is checked against the config yet but what joining needs. What the files keep in
  // several tensors is one here: q, k and v of the vision tower, whose rows follow each other, and the frames
  // of the patch embedding, which alternate. Where they do not lie so in the file they are copied.
  std::vector<TensorInfo> tensors(const ModelConfig& config);

  const std::vector<GgufFile>& files() const { return files_; }

 private:
  struct Place {
    const GgufTensor* tensor;
    const GgufFile* file;
  };

  const GgufFile& text() const { return files_.front(); }
  const GgufFile& mmproj() const { return files_.back(); }
  void index_text();
  void check_split() const;
  DType computing_type() const;
  TensorInfo info(const Place& place, const std::string& name) const;
  TensorInfo made(const std::vector<Place>& parts, const std::string& name, DType type,
                  std::vector<int64_t> shape);
  Place vision(const std::string& name) const;
  TensorInfo joined(const std::string& block, const std::string& kind, const std::string& name,
                    int64_t width);
  TensorInfo patch_embedding(const VisionConfig& config);

  std::vector<GgufFile> files_;        // the parts of the language model, then the mmproj
  std::map<std::string, Place> text_;  // tensors of all its parts
  GgufTexts texts_;
  std::vector<Buffer<char>> copies_;
};

}  // namespace fovea
