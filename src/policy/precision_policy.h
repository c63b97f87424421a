// A precision policy: a preset, or a dtype and attentions, and what is set differently for a tower or some of
// its layers. A value; nothing of it is read per element: resolve() turns it into one struct per layer.
//
// Text form: settings separated by commas, blanks around them allowed.
//   preset=NAME | dtype=T | logits=T | TOWER.NODE=V | TOWER.layers.L.NODE=V | TOWER.layers.L-M.NODE=V
// TOWER is text or vision; layers count from 0, or from the end when negative (-1 is the last). A setting for
// layers goes before one for the tower whatever the order; among overlapping ranges the later one wins.
// JSON form: {"preset": "...", "dtype": "...", "logits": "...", "text": {"scores": "fp32", "layers": {"0-3":
// {"k": "fp32"}}}, "vision": {...}}
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/nodes.h"
#include "policy/presets.h"

namespace fovea {

struct PolicyScope {
  Tower tower = Tower::text;
  bool all_layers = true;
  int64_t first = 0, last = 0;  // unless all_layers; inclusive, negative from the end

  std::string text() const;  // "text", "text.layers.3", "vision.layers.0--1"
  friend bool operator==(const PolicyScope&, const PolicyScope&) = default;
};

struct NodeSetting {
  std::string node, value;
  friend bool operator==(const NodeSetting&, const NodeSetting&) = default;
};

struct ScopedSettings {
  PolicyScope scope;
  std::vector<NodeSetting> settings;  // in the order of nodes()
  friend bool operator==(const ScopedSettings&, const ScopedSettings&) = default;
};

// What the checkpoint stores quantized.
struct StoredQuantization {
  struct Layer {
    Quantization attention = Quantization::none, mlp = Quantization::none;
  };
  std::vector<Layer> text, vision;  // one per layer, or none at all
  Quantization head = Quantization::none;
};

// What a policy is applied to.
struct PolicyTarget {
  AttentionKind text_attention = AttentionKind::flash_attention_2;  // without a preset
  AttentionKind vision_attention = AttentionKind::flash_attention_2;
  std::optional<DType> dtype;  // asked for beside the policy
  DType model_dtype = DType::bf16;
  int64_t text_layers = 0, vision_layers = 0;
  // Where neither a preset nor a setting says how weights are quantized, they stay as they are stored.
  StoredQuantization stored = {};
};

struct ResolvedPolicy {
  Precision precision;
  DType dtype = DType::f32;
};

class PrecisionPolicy {
 public:
  PrecisionPolicy() = default;
  // Throws Error(invalid_argument) listing the names.
  static PrecisionPolicy of_preset(std::string_view name);
  // Throw Error(invalid_argument) naming the setting that is wrong and what would be right.
  static PrecisionPolicy parse_text(std::string_view text);
  static PrecisionPolicy parse_json(std::string_view text);

  // Both forms read back equal.
  std::string text() const;
  std::string json() const;

  const std::optional<std::string>& preset() const { return preset_; }
  const std::optional<DType>& dtype() const { return dtype_; }
  const std::optional<DType>& logits() const { return logits_; }
  const std::vector<ScopedSettings>& scopes() const { return scopes_; }

  // Throw Error(invalid_argument) when already set otherwise.
  void set_preset(std::string_view name);
  void set_dtype(DType dtype);
  void set_logits(DType dtype);
  // Checks node and value; the same node twice in one scope is refused.
  void set(const PolicyScope& scope, std::string_view node, std::string_view value);

  // One struct per layer, each checked. Throws Error(invalid_argument) for a policy that makes no sense or
  // names layers that are not there.
  ResolvedPolicy resolve(const PolicyTarget& target) const;

  friend bool operator==(const PrecisionPolicy&, const PrecisionPolicy&) = default;

 private:
  LayeredPrecision resolve_tower(Tower tower, DType dtype, AttentionKind attention, int64_t layers,
                                 const StoredQuantization& stored) const;
  bool sets(Tower tower, std::string_view node) const;

  std::optional<std::string> preset_;
  std::optional<DType> dtype_, logits_;
  std::vector<ScopedSettings> scopes_;  // those of whole towers first
};

// What --kv-cache-dtype says, with the names of vLLM: keys and values stored as `dtype` in every layer that
// has no setting of its own. int8: in all layers but the first and the last, and with keys kept without their
// bias (bias_split), because a scale that must cover the bias leaves too few steps for what tells keys apart.
// Throws Error(invalid_argument) when the policy says otherwise.
void set_kv_cache(PrecisionPolicy& policy, std::string_view dtype);

// "0-3", "5", "-1", "-4--1" behind "layers."; throws Error(invalid_argument).
PolicyScope parse_layers(Tower tower, std::string_view range);

}  // namespace fovea
