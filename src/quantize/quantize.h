// Writes a checkpoint again with weights in fewer bits, packed as the kernels read them, so that they are
// mapped and not converted when it is opened. docs/quantization.md has the layout.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <string>

#include "base/precision.h"
#include "base/progress.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

struct QuantizeOptions {
  std::filesystem::path out;
  bool replace = false;       // a checkpoint that is already there
  DType dtype = DType::bf16;  // the model's from now on: what it computes in unless told otherwise
  std::string policy = {};    // in words, for the folder's own description
  const std::atomic<bool>* cancel = nullptr;
};

struct QuantizedForm {
  int64_t tensors = 0, parameters = 0, bytes_before = 0, bytes = 0;
};

struct QuantizeSummary {
  bool complete = false;                       // false: cancelled, nothing was written
  std::map<std::string, QuantizedForm> forms;  // by "w8a8", "int4", "bf16", ...
  int64_t bytes_before = 0, bytes = 0;
};

// Every matrix as `precision` quantizes it, else rounded to the type its layer's `weights` wants; vectors,
// tokenizer and templates as they are. Reading the folder with the same policy gives the same numbers, bit
// for bit. Throws Error(unsupported) for a checkpoint that is quantized already, Error(exhausted) when the
// disk is full, and those of OutputFolder.
QuantizeSummary quantize_checkpoint(const Checkpoint& checkpoint, const Precision& precision,
                                    const QuantizeOptions& options, const ProgressFn& progress);

}  // namespace fovea
