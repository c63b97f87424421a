// Writes a checkpoint again with weights in fewer bits, packed as the kernels read them, so that they are
// mapped and not converted when it is opened. docs/guide/memory.md describes the folder.
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

// What the folder would hold; no weight is read.
QuantizeSummary planned_quantization(const Checkpoint& checkpoint, const Precision& precision);

// What --weights int8 and int4 mean, as the text of a precision policy: the first and the last layer and the
// vision tower feel rounding most, so they keep more bits.
inline constexpr const char* kInt8Policy =
    "text.quantization=w8a8,text.head=w8a8,text.layers.0.quantization=none,text.layers.-1.quantization=none";
inline constexpr const char* kInt4Policy =
    "text.quantization=int4,text.head=w8a8,vision.quantization=w8a8,text.layers.0.quantization=w8a8,"
    "text.layers.-1.quantization=w8a8";

// Every matrix as `precision` quantizes it, else rounded to the type its layer's `weights` wants; vectors,
// tokenizer and templates as they are. Reading the folder with the same policy gives the same numbers, bit
// for bit. Throws Error(unsupported) for a checkpoint that is quantized already, Error(exhausted) when the
// disk is full, and those of OutputFolder.
QuantizeSummary quantize_checkpoint(const Checkpoint& checkpoint, const Precision& precision,
                                    const QuantizeOptions& options, const ProgressFn& progress);

}  // namespace fovea
