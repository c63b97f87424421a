// The guard: which rows of attention have scores that their dtype cannot resolve, counted per layer and head.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace fovea {

// warn counts; escalate also recomputes the rows at risk with fp32 scores.
enum class GuardMode : uint8_t { off, warn, escalate };
const char* name_of(GuardMode mode);
// Throws Error(invalid_argument) for any other name.
GuardMode parse_guard(std::string_view name);

struct GuardOptions {
  GuardMode mode = GuardMode::off;
  // A row is at risk when its largest scaled score times the dtype's unit roundoff exceeds this.
  float tau = 0.125f;
};

// What was seen in one query head of one layer.
struct HeadGuard {
  int64_t rows = 0;        // query rows looked at
  int64_t at_risk = 0;     // whose stored scores are too coarse, beyond fp16, or not finite
  int64_t overflows = 0;   // rows with a raw product beyond fp16's 65504, whatever the dtype
  int64_t recomputed = 0;  // rows whose scores were kept in fp32 instead
  // Rows that would be at risk if the scores were stored in 16 bits. sdpa and flash_attention_2 store none,
  // so that this is advice about other implementations.
  int64_t would_be_at_risk = 0;
  float largest = 0;  // largest |score| after scaling: as stored in eager, a bound |q| max|k| in the others

  void add(const HeadGuard& other);
  friend bool operator==(const HeadGuard&, const HeadGuard&) = default;
};

// Of one request: [layer][query head]; empty when the guard is off.
struct GuardReport {
  GuardOptions options;
  std::vector<std::vector<HeadGuard>> text, vision;
};

// What a guarded attention call is given.
struct AttentionGuard {
  GuardOptions options;
  HeadGuard* heads = nullptr;        // [heads_q], added to
  const float* key_norms = nullptr;  // [tokens_q, heads_kv]: a bound on |k| of the keys that query sees; not
                                     // read by eager, which knows its scores
};

struct AttentionProblem;
struct Context;
struct HeadsView;

// Adds `from` to `to` from any thread; sums and maxima do not depend on the order.
void add_shared(HeadGuard& to, const HeadGuard& from);

// out[i] = |k_i| of each token and head, [tokens, heads].
void key_norms(const Context& context, const HeadsView& k, float* out);

// For implementations that never store scores: counts the rows that 16-bit scores would put at risk, by the
// bound |q| max|k| (O(head_dim) a row).
void guard_by_bound(const AttentionProblem& problem);

}  // namespace fovea
