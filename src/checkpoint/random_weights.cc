#include "checkpoint/random_weights.h"

#include <cmath>
#include <string_view>

#include "base/error.h"
#include "base/fnv1a.h"
#include "base/splitmix64.h"

namespace fovea {
namespace {

// The sum of four uniform 16-bit integers less its mean: close to normal, bounded, and exact in integers,
// where the standard library's normal_distribution differs between implementations. Its deviation is 2^16 /
// sqrt(3).
constexpr double kDeviation = 37837.22745;
int32_t deviate(uint64_t key, uint64_t index) {
  const uint64_t z = splitmix64(key + (index + 1) * kSplitMixStep);
  return static_cast<int32_t>((z & 0xffff) + ((z >> 16) & 0xffff) + ((z >> 32) & 0xffff) + (z >> 48)) -
         2 * 0xffff;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

template <typename T, typename Store>
void fill(const RandomTensor& tensor, int64_t begin, int64_t count, void* out, Store store) {
  T* const values = static_cast<T*>(out);
  for (int64_t i = 0; i < count; ++i) {
    const auto x =
        static_cast<float>(deviate(tensor.key, static_cast<uint64_t>(begin + i)));  // exact: < 2^24
    // Where mean is not 0, scale is a power of two: the product is exact and a fused multiply-add changes
    // nothing.
    values[i] = store(tensor.mean + tensor.scale * x);
  }
}

}  // namespace

RandomTensor random_tensor(const ExpectedTensor& tensor, const ModelConfig& config, uint64_t seed) {
  RandomTensor random;
  random.key = splitmix64(splitmix64(seed + kSplitMixStep) ^ fnv1a(tensor.name));
  random.dtype = config.dtype;
  const bool bias = ends_with(tensor.name, ".bias");
  if (tensor.shape.size() == 1) {
    random.mean = bias ? 0.0f : 1.0f;
    random.scale = bias ? 0x1p-21f : 0x1p-20f;  // deviations 0.018 and 0.036
    return random;
  }
  double fan_in = 1;
  for (size_t axis = 1; axis < tensor.shape.size(); ++axis) fan_in *= static_cast<double>(tensor.shape[axis]);
  double deviation = 1 / std::sqrt(fan_in);
  const bool vision = tensor.name.rfind("model.visual.", 0) == 0;
  const int64_t blocks = vision ? config.vision.depth : config.text.num_hidden_layers;
  for (const char* residual : {"o_proj.weight", "attn.proj.weight", "down_proj.weight"}) {
    if (ends_with(tensor.name, residual)) deviation /= std::sqrt(2 * static_cast<double>(blocks));
  }
  random.scale = static_cast<float>(deviation / kDeviation);
  return random;
}

void fill_random(const RandomTensor& tensor, int64_t begin, int64_t count, void* out) {
  switch (tensor.dtype) {
    case DType::f32:
      return fill<float>(tensor, begin, count, out, [](float x) { return x; });
    case DType::bf16:
      return fill<uint16_t>(tensor, begin, count, out, bf16_from_f32);
    case DType::f16:
      return fill<uint16_t>(tensor, begin, count, out, f16_from_f32);
    case DType::f64:
    case DType::i8:
      FOVEA_CHECK(!"no weight is stored in fp64 or int8");
  }
}

}  // namespace fovea
