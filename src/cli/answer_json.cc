#include "cli/answer_json.h"

#include <sys/resource.h>

#include "base/parallel.h"
#include "cli/guard_text.h"
#include "cli/stored_weights.h"

namespace fovea {

using nlohmann::ordered_json;

namespace {

ordered_json size_json(int64_t width, int64_t height) { return {{"width", width}, {"height", height}}; }

double rate(int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

// What of the weights is in memory, what is streamed, and what was.
ordered_json weights_json(const Engine& engine, const Timings& t) {
  const HeldWeights held = held_weights(engine);
  if (!engine.streams_weights()) {
    ordered_json json = {{"bytes", held.bytes}, {"mapped", true}, {"stored_as", held.stored_as}};
    if (!held.widened.empty()) json["widened"] = {{"from", held.widened}, {"to", held.type}};
    return json;
  }
  const StreamState stream = engine.stream_state();
  return {{"bytes", held.bytes},
          {"mapped", false},
          {"share_bytes", stream.source_bytes},
          {"kept_bytes", stream.kept_bytes},
          {"buffer_bytes", stream.buffer_bytes},
          {"streamed_bytes_per_token", stream.streamed_bytes},
          {"vision_read_bytes", t.vision_fetched_bytes},
          {"prefill_read_bytes", t.prefill_fetched_bytes},
          {"decode_read_bytes", t.decode_fetched_bytes}};
}

std::vector<std::string> all_warnings(const Engine& engine, const Prompt& prompt) {
  std::vector<std::string> all = engine.warnings();
  all.insert(all.end(), prompt.warnings.begin(), prompt.warnings.end());
  return all;
}

}  // namespace

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

ordered_json pictures_json(const Prompt& prompt, int64_t merge_size) {
  ordered_json list = ordered_json::array();
  for (const Picture& picture : prompt.pictures) {
    ordered_json item = {{"source", picture.source},
                         {"type", picture.is_video ? "video" : "image"},
                         {"original", size_json(picture.original_width, picture.original_height)},
                         {"resized", size_json(picture.resized_width, picture.resized_height)},
                         {"grid_thw", {picture.grid.t, picture.grid.h, picture.grid.w}},
                         {"tokens", picture.tokens(merge_size)},
                         {"tokens_wanted", picture.tokens_wanted}};
    if (picture.is_video) {
      item["frames"] = picture.frames;
      item["second_per_grid"] = picture.second_per_grid;
    }
    list.push_back(item);
  }
  return list;
}

ordered_json answer_json(const Engine& engine, const Prompt& prompt, const Answer& answer) {
  const Timings& t = answer.timings;
  // The first token comes out of the prefill; decode produced the others.
  const int64_t decoded = t.generated_tokens > 0 ? t.generated_tokens - 1 : 0;
  const ordered_json timings = {{"load_s", t.load_s},
                                {"preprocess_s", t.preprocess_s},
                                {"vision_s", t.vision_s},
                                {"prefill_s", t.prefill_s},
                                {"decode_s", t.decode_s},
                                {"prefill_tokens_per_s", rate(t.prompt_tokens, t.prefill_s)},
                                {"decode_tokens_per_s", rate(decoded, t.decode_s)}};
  const Speculation& speculation = answer.speculation;
  return {{"text", answer.text},
          {"token_ids", answer.token_ids},
          {"finish_reason", answer.finish_reason},
          {"prompt_tokens", t.prompt_tokens},
          {"generated_tokens", t.generated_tokens},
          {"images", pictures_json(prompt, engine.checkpoint().config().vision.spatial_merge_size)},
          {"warnings", all_warnings(engine, prompt)},
          {"timings", timings},
          {"speculation",
           {{"proposed", speculation.proposed},
            {"accepted", speculation.accepted},
            {"steps", speculation.steps}}},
          {"peak_memory_bytes", peak_memory_bytes()},
          {"weights", weights_json(engine, t)},
          {"kv_cache",
           {{"page_tokens", kPageTokens},
            {"bytes", answer.kv_cache.bytes},
            {"disk_bytes", answer.kv_cache.disk_bytes},
            {"layers_on_disk", answer.kv_cache.layers_on_disk},
            {"read_bytes", answer.kv_cache.read_bytes},
            {"written_bytes", answer.kv_cache.written_bytes}}},
          {"attn", name_of(engine.options().attention)},
          {"vision_attn", name_of(engine.options().vision_attention)},
          {"dtype", name_of(engine.dtype())},
          {"precision", engine.options().policy ? engine.options().policy->text() : ""},
          {"guard", guard_json(answer.guard)},
          {"threads", threads()},
          {"kernels", engine.kernel_variant()}};
}

}  // namespace fovea
