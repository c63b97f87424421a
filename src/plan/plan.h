// Predicts how much memory a request needs, part by part and phase by phase, before anything is allocated.
//
// What is counted is the resident set of the process. Weights are mapped from their files and counted whole,
// because every page of them is read; they can be dropped and read again, so they alone never make a process
// die. The other parts cannot. With a limit that they exceed, weights are streamed instead of mapped: what is
// left of the limit is filled with groups that stay and buffers for the others (checkpoint/weight_groups.h).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/precision.h"
#include "checkpoint/checkpoint.h"
#include "media/media.h"
#include "model/held_parts.h"
#include "model/weight_store.h"

namespace fovea {

// An image or video as measured (media.h), without patches, and the options it was measured with.
struct PlanPicture {
  Picture measured;
  MediaOptions options;
};

// One of several ranks that compute a request together, each some parts of the model (--device-map).
struct RankPart {
  HeldParts held;
  bool asks = true;  // holds the request: its pictures, embeddings and logits
};

struct PlanRequest {
  int64_t text_tokens = 0;    // of the prompt, apart from the pictures'
  int64_t answer_tokens = 0;  // at most
  std::vector<PlanPicture> pictures;
  int64_t prefill_chunk = 512;  // 0: the whole prompt at once
  int64_t vision_budget_bytes = 0;
  bool guard = false;
  bool all_logits = false;       // of every prompt token, not of the last one alone
  int64_t process_bytes = 0;     // program, libraries, tokenizer: what is resident before weights are read
  int64_t ranks = 0;             // that store the weights together (ZeRO stage 3); 0: this process alone
  bool share_on_disk = false;    // this rank's part of them stays in its files
  std::optional<RankPart> part;  // of a device map; without ranks, ram and kv_offload
  // Of a folder that fovea quantize would write, with the precision's own quantization: mapped, as computed.
  std::optional<int64_t> quantized_folder_bytes;
  std::optional<int64_t> ram;  // stream weights when the peak would be above it
  // Keys and values may lie on disk: those that `ram` has no room for, before weights are streamed; without
  // `ram` all of them.
  bool kv_offload = false;
};

struct Plan {
  int64_t prompt_tokens = 0, image_tokens = 0, context = 0;  // context: prompt and answer
  // Held from beginning to end.
  int64_t process = 0, weights = 0, converted_weights = 0, patches = 0;
  int64_t decoding = 0;  // of the largest picture, before it is patches
  // While pictures are encoded: of the largest call.
  int64_t vision_activations = 0, vision_attention = 0;
  int64_t embeddings = 0;                  // of all pictures, from then on
  int64_t kv_cache = 0;                    // in memory
  int64_t kv_disk = 0;                     // and on disk, where every token reads all of it
  std::optional<int64_t> kv_limit;         // with some on disk: KvOffload::bytes, as the engine wants it
  int64_t activations = 0, attention = 0;  // of the decoder's largest call
  int64_t logits = 0;
  // Of weights that are streamed: what stays and the buffers, while pictures are encoded and afterwards;
  // `weights` is 0 then.
  bool streamed = false;
  int64_t vision_weights = 0, text_weights = 0;
  int64_t ranks = 0;              // as asked for
  int64_t weight_share = 0;       // with ranks: what this one stores
  int64_t fetched_per_token = 0;  // what a decode step reads
  WeightLimit weight_limit;       // as the engine wants it

  int64_t held() const { return process + weights + weight_share + converted_weights + patches; }
  int64_t preprocessing() const { return held() + decoding; }
  int64_t encoding() const {
    return held() + vision_weights + embeddings + vision_activations + vision_attention;
  }
  int64_t generating() const {
    return held() + text_weights + embeddings + kv_cache + activations + attention + logits;
  }
  int64_t peak() const;
  const char* peak_phase() const;  // "preprocessing", "encoding" or "generating"
  // Of the peak, what the system cannot take back: all but the mapped weights.
  int64_t unreclaimable() const { return peak() - weights; }
};

// Whether weights can be streamed, from disk or from other ranks: neither the policy nor the checkpoint
// quantizes.
bool shareable(const Checkpoint& checkpoint, const Precision& precision);

// Nothing of the weights is read. Throws Error(unsupported) for `ranks` with weights that are not shareable.
Plan make_plan(const Checkpoint& checkpoint, const Precision& precision, const PlanRequest& request);

}  // namespace fovea
