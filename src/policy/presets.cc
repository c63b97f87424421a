#include "policy/presets.h"

#include <fmt/ranges.h>

#include <vector>

#include "base/error.h"

namespace fovea {

namespace {

void divide(TowerPrecision& precision, Tower, DType) { precision.attention.scale = ScalePlacement::divide; }

// Only the text decoder's eager had the patch.
void divide_and_patch(TowerPrecision& precision, Tower tower, DType) {
  precision.attention.scale = ScalePlacement::divide;
  precision.attention.inf_to_zero = tower == Tower::text;
}

// q and k are cast up in the product alone: P is cast back to the dtype of the values before P.V.
void upcast_qk(TowerPrecision& precision, Tower, DType) {
  precision.attention.scores = precision.attention.scaled = DType::f32;
}

// q, k and v are cast up before the call, so that P keeps fp32 too; the output is cast back.
void upcast_qkv(TowerPrecision& precision, Tower tower, DType dtype) {
  upcast_qk(precision, tower, dtype);
  precision.attention.probabilities = DType::f32;
}

// _scaled_dot_product_attention_math before torch 2.5: everything is stored in the inputs' dtype (softmax is
// fp32 inside), q and k are each multiplied by the root of the scale, and the causal mask is -inf.
void math_low(TowerPrecision& precision, Tower, DType) {
  precision.attention.scale = ScalePlacement::split;
  precision.attention.mask = MaskAdd::skip;
}

// Cures of our own. Product, scale and row maximum in fp32, then one rounding; later keys are left out.
void max_shift(TowerPrecision& precision, Tower, DType) {
  precision.attention.scale = ScalePlacement::fused;
  precision.attention.scores = DType::f32;
  precision.attention.score_shift = ScoreShift::row_max;
  precision.attention.mask = MaskAdd::skip;
}

void centre_keys(TowerPrecision& precision, Tower, DType) {
  precision.attention.k_centring = KCentring::mean;
}

void centre_key_blocks(TowerPrecision& precision, Tower, DType) {
  precision.attention.k_centring = KCentring::block256;
}

// The vision tower keeps no keys: there eager takes the row maximum.
void split_bias(TowerPrecision& precision, Tower tower, DType dtype) {
  precision.bias_split = tower == Tower::text;
  if (tower == Tower::vision && precision.kind == AttentionKind::eager) max_shift(precision, tower, dtype);
}

void exact_norms(TowerPrecision& precision, Tower, DType) { precision.norm_statistics = DType::f64; }

// 8 bits per weight and per value of a row.
void quantize_w8a8(TowerPrecision& precision, Tower tower, DType) {
  precision.quantization = precision.mlp_quantization = Quantization::w8a8;
  if (tower == Tower::text) precision.head = Quantization::w8a8;
}

// The text decoder's weights in 4 bits, its head and the vision tower in 8.
void quantize_int4(TowerPrecision& precision, Tower tower, DType) {
  const bool text = tower == Tower::text;
  precision.quantization = precision.mlp_quantization = text ? Quantization::int4 : Quantization::w8a8;
  if (text) precision.head = Quantization::w8a8;
}

constexpr Preset kPresets[] = {
    {"eager-bf16", "transformers' eager in bf16: unscaled scores are stored in 8 significant bits",
     AttentionKind::eager, DType::bf16, nullptr},
    {"eager-bf16-old", "the same in transformers 4.49 to 4.51: scores are divided by sqrt(head_dim)",
     AttentionKind::eager, DType::bf16, divide},
    {"eager-fp16", "transformers' eager in fp16: NaN once a raw score passes 65504", AttentionKind::eager,
     DType::f16, nullptr},
    {"eager-fp16-old",
     "the same in 4.49 to 4.51, with its patch: infinite scores become 0, masked ones included",
     AttentionKind::eager, DType::f16, divide_and_patch},
    {"eager-qkv-fp32", "the known cure: eager with q, k, v cast to fp32 and the output cast back",
     AttentionKind::eager, std::nullopt, upcast_qkv},
    {"eager-qk-fp32", "eager with only q and k cast to fp32; probabilities stay in the model's dtype",
     AttentionKind::eager, std::nullopt, upcast_qk},
    {"sdpa", "torch's sdpa since 2.5: fp32 between its inputs and its output", AttentionKind::sdpa,
     std::nullopt, nullptr},
    {"sdpa-math-low", "torch's sdpa math kernel before 2.5: everything stored in the model's dtype",
     AttentionKind::eager, std::nullopt, math_low},
    {"flash-bf16", "FlashAttention-2 in bf16: fp32 scores, unnormalised probabilities in bf16",
     AttentionKind::flash_attention_2, DType::bf16, nullptr},
    {"flash-fp16", "FlashAttention-2 in fp16", AttentionKind::flash_attention_2, DType::f16, nullptr},
    {"eager-bf16-maxshift", "eager-bf16, each row's maximum subtracted in fp32 before its scores are stored",
     AttentionKind::eager, DType::bf16, max_shift},
    {"eager-bf16-kcentred", "eager-bf16 with the mean key subtracted: for biases in slow rotary pairs",
     AttentionKind::eager, DType::bf16, centre_keys},
    {"eager-bf16-kcentred256", "the same per block of 256 keys, for faster rotary pairs too",
     AttentionKind::eager, DType::bf16, centre_key_blocks},
    {"eager-bf16-bias-split", "eager-bf16; k is kept without its bias, which joins the scores in fp32",
     AttentionKind::eager, DType::bf16, split_bias},
    {"flash-bf16-bias-split", "flash-bf16; k is kept without its bias, which joins the scores in fp32",
     AttentionKind::flash_attention_2, DType::bf16, split_bias},
    {"exact", "flash_attention_2 in the model's dtype, no quantization: what runs without a preset",
     AttentionKind::flash_attention_2, std::nullopt, nullptr},
    {"balanced", "exact, with the projections of both towers and the head in 8 bits (w8a8)",
     AttentionKind::flash_attention_2, std::nullopt, quantize_w8a8},
    {"fast", "exact, with the text decoder's weights in 4 bits, its head and the vision tower in 8",
     AttentionKind::flash_attention_2, std::nullopt, quantize_int4},
    {"fp32", "everything in fp32 (flash_attention_2)", AttentionKind::flash_attention_2, DType::f32, nullptr},
    {"reference", "fp32 with attention and norm statistics in fp64: slow, the yardstick of the others",
     AttentionKind::reference, DType::f32, exact_norms},
};

}  // namespace

TowerPrecision Preset::tower(Tower tower, DType model_dtype) const {
  const DType type = dtype.value_or(model_dtype);
  TowerPrecision precision =
      tower == Tower::text ? TowerPrecision::text(type, attention) : TowerPrecision::vision(type, attention);
  if (adjust != nullptr) adjust(precision, tower, type);
  return precision;
}

std::span<const Preset> presets() { return kPresets; }

const Preset& preset_named(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Preset& preset : kPresets) {
    if (preset.name == name) return preset;
    names.emplace_back(preset.name);
  }
  throw Error(ErrorKind::invalid_argument, fmt::format("there is no preset '{}'", name),
              fmt::format("use one of: {} (fovea presets describes them)", fmt::join(names, ", ")));
}

}  // namespace fovea
