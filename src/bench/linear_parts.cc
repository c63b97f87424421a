#include <fmt/format.h>

#include <span>

#include "bench/parts.h"
#include "model/linear.h"

namespace fovea::bench {

namespace {

struct Shape {
  const char* name;
  int64_t rows, cols, depth;
  int64_t copies = 1;  // different weights, one after the other, so that no cache holds them
};
// Prefill of 512 tokens; the vision tower's 2,304 rows are a quarter of a picture of 1344 x 1344.
constexpr Shape kShapes[] = {{"attention_o", 512, 2048, 2048},  {"attention_qkv", 512, 2560, 2048},
                             {"gate_up", 512, 22016, 2048},     {"down", 512, 2048, 11008},
                             {"vision_qkv", 2304, 3840, 1280},  {"vision_gate_up", 2304, 6840, 1280},
                             {"vision_down", 2304, 1280, 3420}, {"vision_merger", 576, 5120, 5120}};
constexpr Shape kDecode[] = {{"attention_o", 1, 2048, 2048, 32},
                             {"gate_up", 1, 22016, 2048, 4},
                             {"down", 1, 2048, 11008, 8},
                             {"head", 1, 151936, 2048, 1}};

// Small integers / 8: exact in every type, and so is any order of their sums.
float input_at(int64_t i) { return static_cast<float>(i * 7919 % 13 - 6) / 8; }
float weight_at(int64_t i) { return static_cast<float>(i * 104729 % 17 - 8) / 8; }

struct Data {
  Data(const Shape& s, DType type) : x(s.rows * s.depth), y(s.rows * s.cols) {
    for (int64_t i = 0; i < x.size(); ++i) x[i] = input_at(i);
    const int64_t count = s.copies * s.cols * s.depth;
    const LinearTypes types{type, type, DType::f32};
    if (type == DType::bf16) {
      narrow.resize(count);
      for (int64_t i = 0; i < count; ++i) narrow[i] = bf16_from_f32(weight_at(i));
    } else {
      wide.resize(count);
      for (int64_t i = 0; i < count; ++i) wide[i] = weight_at(i);
    }
    for (int64_t copy = 0; copy < s.copies; ++copy) {
      const int64_t first = copy * s.cols * s.depth;
      const void* data =
          type == DType::bf16 ? static_cast<const void*>(narrow.data() + first) : wide.data() + first;
      layers.push_back(Linear::of_matrix({data, type, s.cols, s.depth, s.depth}, types));
    }
  }
  void multiply(int64_t rows) {
    for (const Linear& layer : layers) layer.apply(x.data(), rows, y.data());
  }

  Buffer<float> x, y, wide;
  Buffer<uint16_t> narrow;
  std::vector<Linear> layers;
};

// The first, a middle and the last result of the last product, exactly.
void check(const std::string& name, const Shape& s, const Data& data) {
  const int64_t first = (s.copies - 1) * s.cols * s.depth;
  for (const int64_t at : {int64_t{0}, s.rows * s.cols / 2 + 1, s.rows * s.cols - 1}) {
    double sum = 0;
    for (int64_t i = 0; i < s.depth; ++i) {
      sum += double{data.x[at / s.cols * s.depth + i]} * double{weight_at(first + at % s.cols * s.depth + i)};
    }
    if (data.y[at] == sum) continue;
    throw Error(ErrorKind::numeric, fmt::format("{}: element {} is {}, not {}", name, at, data.y[at], sum),
                "report this with the output of lscpu");
  }
}

Part part(const std::string& name, const Shape& s, DType type) {
  return {name, [name, s, type] {
            const auto data = std::make_shared<Data>(s, type);
            const auto call = [data, s] { data->multiply(s.rows); };
            call();
            check(name, s, *data);
            const auto products = static_cast<double>(s.rows * s.cols * s.depth * s.copies);
            Work work{.name = name, .amount = 2 * products, .unit = "GFLOP/s", .call = call};
            work.bound = type == DType::bf16 ? Bound::bf16 : Bound::fp32;
            if (s.rows == 1) {
              work.bound = Bound::read;
              work.unit = "GB/s";
              work.amount = products * static_cast<double>(bytes_of(type));
            }
            return work;
          }};
}

// The four products of a decoder layer, one after the other: `linear.bf16`, `linear.fp32`.
Part layer_part(const std::string& name, DType type) {
  return {name, [name, type] {
            std::vector<Work> products;
            for (const Shape& s : std::span(kShapes).first(4)) products.push_back(part(name, s, type).make());
            Work work = products.front();
            work.amount = 0;
            for (const Work& product : products) work.amount += product.amount;
            work.call = [products] {
              for (const Work& product : products) product.call();
            };
            return work;
          }};
}

}  // namespace

std::vector<Part> linear_parts() {
  std::vector<Part> parts{layer_part("linear.bf16", DType::bf16), layer_part("linear.fp32", DType::f32)};
  for (const Shape& s : kShapes) parts.push_back(part(fmt::format("linear.bf16.{}", s.name), s, DType::bf16));
  for (const Shape& s : kDecode)
    parts.push_back(part(fmt::format("linear.decode.bf16.{}", s.name), s, DType::bf16));
  return parts;
}

}  // namespace fovea::bench
