// A checkpoint, a Hugging Face folder or GGUF files of llama.cpp: configs parsed, tensors memory-mapped and
// checked against the config.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/block_format.h"
#include "base/buffer.h"
#include "base/progress.h"
#include "checkpoint/config.h"
#include "checkpoint/model_files.h"

namespace fovea {

// How a matrix is stored: plain; in 8 or 4 bits as the kernels read it, written by fovea quantize; as
// published (docs/guide/memory.md, "Weights in 8 and 4 bits"); or in the blocks of a GGUF file.
enum class WeightFormat : uint8_t { plain, w8a8, int4, awq, gptq, blocks };
const char* name_of(WeightFormat format);

// The parts of a matrix that is not plain, borrowed from the mapping.
struct QuantizedParts {
  const void *values = nullptr, *scales = nullptr;
  const int32_t* zeros = nullptr;   // awq, gptq
  const int32_t* groups = nullptr;  // gptq: the group of each column; null: in order
  DType scale_type = DType::f32;
  int64_t bits = 0, group_size = 0;
  bool zeros_minus_one = false;
  int64_t bytes = 0;  // of all parts together
};

struct TensorInfo {
  std::string name;          // canonical: the newer era's, "model.visual.blocks.0.attn.qkv.weight",
                             // "model.language_model.layers.0.self_attn.q_proj.weight", "lm_head.weight"
  std::string file_name;     // the name in the file, possibly the older era's ("visual.*", "model.*")
  std::string file;          // which file of the folder; of GGUF its whole path; empty: in memory alone
  DType dtype = DType::f32;  // f32 unless plain: what its values are exact in
  std::vector<int64_t> shape;
  const void* data = nullptr;  // borrowed from the mapping; null unless plain
  int64_t offset = 0;          // of the first byte in the file
  WeightFormat format = WeightFormat::plain;
  BlockFormat blocks = BlockFormat::q8_0;  // where `format` is blocks; each row is a number of them
  QuantizedParts parts = {};
  int64_t elements() const;
  int64_t bytes() const;
};

class Checkpoint {
 public:
  // Reads the configs and maps the weights. Every tensor that the config implies is present with the implied
  // shape, in bounds and without overlap; otherwise throws Error naming file and tensor.
  static Checkpoint open(const ModelFiles& files);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  // The folder; of GGUF files that were named one by one, the language model's.
  const std::filesystem::path& dir() const;
  // What was opened, as arguments behind -m.
  const ModelFiles& files() const;
  // Whether it is GGUF, and then the small files that a folder with this model would hold, by name; made anew
  // at each call, because a tokenizer is large.
  bool is_gguf() const;
  std::map<std::string, std::string> folder_texts() const;
  const ModelConfig& config() const;
  const GenerationConfig& generation() const;
  const PreprocessorConfig& preprocessor() const;
  // What the folder holds that goes unused or contradicts itself without harm: a sentence each, for the user.
  const std::vector<std::string>& warnings() const;

  const std::vector<TensorInfo>& tensors() const;  // sorted by canonical name
  bool has(const std::string& name) const;
  bool quantized() const;  // some matrix is not plain
  // Throws Error(not_found) naming the tensor.
  const TensorInfo& tensor(const std::string& name) const;
  // [out, in] weight as a matrix, which must be plain; leading dimensions past the first are folded into
  // columns (Conv3d -> GEMM).
  MatrixView matrix(const std::string& name) const;
  // A 1-D tensor converted to f32.
  std::vector<float> vector(const std::string& name) const;

  // Reads every mapped page once, in file order, so that the first token does not wait for the disk.
  void read_ahead(const ProgressFn& progress) const;
  // Gives mapped pages back to the system; touched again, they are read again.
  void drop_pages() const;
  // Of names, types and places of all tensors: the same for copies. No weight is read.
  uint64_t layout() const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Output channels [first, first + count) of an awq or gptq matrix, (value - zero) * scale, exact in f32, or
// of one in blocks (block_format.h). out: [count, in].
void dequantize(const TensorInfo& tensor, int64_t first, int64_t count, float* out);

// Names and shapes of every tensor a config implies, in canonical names (lm_head.weight only when untied).
struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

}  // namespace fovea
