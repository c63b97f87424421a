// The block formats of llama.cpp's GGUF files: some neighbouring weights of a row as small integers with
// scales of their own. Layouts: ggml-common.h; what each means: gguf-py's dequantize_blocks.
#pragma once

#include <cstdint>

namespace fovea {

enum class BlockFormat : uint8_t { q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, iq4_nl, iq4_xs };

// "Q4_K", "IQ4_XS": the names in llama.cpp.
const char* name_of(BlockFormat format);
// Weights of one block, 32 or 256, and its bytes.
int64_t elements_of(BlockFormat format);
int64_t bytes_of(BlockFormat format);

// `count` weights, whole blocks, as f32: the definition of each format. At most the last step rounds, because
// a product of a scale in fp16 with integers of so few bits is exact in f32.
void widen_blocks(BlockFormat format, const void* blocks, int64_t count, float* out);

}  // namespace fovea
