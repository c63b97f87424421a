// Moving rows between the caller's strided views and the contiguous f32 matrices the kernels work on.
#pragma once

#include <cstdint>

#include "attention/problem.h"
#include "attention/query_tiles.h"
#include "kernels/kernels.h"

namespace fovea {

// The tile's query rows, in tile row order, head_dim contiguous columns each.
void gather_queries(const AttentionProblem& problem, const QueryTile& tile, float* out);

// out[heads, kKeyTile, head_dim] = tokens [first, first + count), count <= kKeyTile, of neighbouring heads as
// f32. Memory is read in the order it lies. f32 views are copied too: their rows are a multiple of 4 KiB
// apart often enough to evict each other from the cache.
void pack_rows(const Kernels& kernels, const HeadsView& view, int64_t head, int64_t heads, int64_t first,
               int64_t count, float* out);

// The same for the problem's whole keys: those of k with their key bias, in f32.
void pack_keys(const AttentionProblem& problem, int64_t head, int64_t heads, int64_t first, int64_t count,
               float* out);
// out[count, head_dim] += factor * R_j b for tokens [first, first + count) of one head.
void add_key_bias(const AttentionProblem& problem, int64_t head, int64_t first, int64_t count, float factor,
                  float* out);

// One value, widened: for slow code. key_at includes the key bias.
double value_at(const HeadsView& view, int64_t token, int64_t head, int64_t column);
double key_at(const AttentionProblem& problem, int64_t token, int64_t head, int64_t column);

// y[rows, keys] = x . k^T for the problem's keys [first, first + count) of one head; `scratch` holds count *
// head_dim.
void score_rows(const AttentionProblem& problem, const float* x, int64_t rows, int64_t head, int64_t first,
                int64_t count, float* y, int64_t ldy, float* scratch);

// y[rows, head_dim] += p . v for values [first, first + count) of one head; `scratch` holds count * head_dim.
void weigh_rows(const Kernels& kernels, const float* p, int64_t ldp, int64_t rows, const HeadsView& v,
                int64_t head, int64_t first, int64_t count, float* y, float* scratch);

// Rounds in place to the values `type` can hold.
void round_to(const Kernels& kernels, DType type, float* x, int64_t count);

// Multiplies each of the tile's rows in `rows` by 1 / sums[row] (rows with sum 0 saw no key and become
// zeros), rounds them to the output dtype and writes them to problem.out. `rows` is overwritten.
void write_output(const AttentionProblem& problem, const QueryTile& tile, const float* rows,
                  const float* sums);

}  // namespace fovea
