#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <span>

#include "base/parallel.h"
#include "bench/amounts.h"
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

// A step of a batch: the projections of all layers of the 3B model, whose weights lie in memory for some, and
// the output head.
constexpr int64_t kBatches[] = {8, 16};
constexpr int64_t kLayers = 36, kLayersHeld = 4;

// Small integers / 8: exact in every type, and so is any order of their sums.
float input_at(int64_t i) { return static_cast<float>(i * 7919 % 13 - 6) / 8; }
float weight_at(int64_t i) { return static_cast<float>(i * 104729 % 17 - 8) / 8; }

// How a product's weights are stored; w8a8 and int4 multiply 8-bit integers.
struct Storage {
  DType type;
  Quantization quantization = Quantization::none;

  Bound bound() const {
    if (quantization != Quantization::none) return Bound::int8;
    return type == DType::bf16 ? Bound::bf16 : Bound::fp32;
  }
};

struct Data {
  Data(const Shape& s, const Storage& storage) : x(s.rows * s.depth), y(s.rows * s.cols) {
    const DType type = storage.type;
    for (int64_t i = 0; i < x.size(); ++i) x[i] = input_at(i);
    const int64_t count = s.copies * s.cols * s.depth;
    const auto for_all = [&](auto set) {
      parallel_for(s.copies * s.cols, [&](int64_t row) {
        for (int64_t i = row * s.depth; i < (row + 1) * s.depth; ++i) set(i);
      });
    };
    const LinearTypes types{type, type, DType::f32, storage.quantization};
    if (type == DType::bf16) {
      narrow.resize(count);
      for_all([&](int64_t i) { narrow[i] = bf16_from_f32(weight_at(i)); });
    } else {
      wide.resize(count);
      for_all([&](int64_t i) { wide[i] = weight_at(i); });
    }
    for (int64_t copy = 0; copy < s.copies; ++copy) {
      const int64_t first = copy * s.cols * s.depth;
      const void* data =
          type == DType::bf16 ? static_cast<const void*>(narrow.data() + first) : wide.data() + first;
      const MatrixView weight{data, type, s.cols, s.depth, s.depth};
      if (storage.quantization == Quantization::none) {
        layers.push_back(Linear::of_matrix(weight, types));
      } else {
        quantized.emplace_back(process_context(), weight, storage.quantization);
        layers.push_back(Linear::of_quantized(quantized.back(), s.depth, types));
      }
    }
  }
  void multiply(int64_t rows) {
    for (const Linear& layer : layers) apply(layer, x.data(), rows, y.data());
  }
  void apply(const Linear& layer, const float* from, int64_t rows, float* to) {
    layer.apply(process_context(), scratch, from, rows, to);
  }

  Buffer<float> x, y, wide;
  Buffer<uint16_t> narrow;
  std::deque<QuantizedMatrix> quantized;
  std::vector<Linear> layers;
  ProductScratch scratch;
};

// The most that one product of input and weight (at most 6/8 and 1) is moved by quantizing both: half a step
// of 127 for 8 bits, one step of at least 6 for 4 bits, whose largest value may be clipped.
double error_of_one(Quantization quantization) {
  if (quantization == Quantization::none) return 0;
  const double input = 0.75 / 127 / 2, weight = quantization == Quantization::w8a8 ? 1.0 / 127 / 2 : 1.0 / 6;
  return 1.01 * (input + 0.75 * weight + input * weight);
}

// The first, a middle and the last result of the last product: exactly, or within the error of quantization.
void check(const std::string& name, const Shape& s, const Data& data, Quantization quantization) {
  const double allowed = error_of_one(quantization) * static_cast<double>(s.depth);
  const int64_t first = (s.copies - 1) * s.cols * s.depth;
  for (const int64_t at : {int64_t{0}, s.rows * s.cols / 2 + 1, s.rows * s.cols - 1}) {
    double sum = 0;
    for (int64_t i = 0; i < s.depth; ++i) {
      sum += double{data.x[at / s.cols * s.depth + i]} * double{weight_at(first + at % s.cols * s.depth + i)};
    }
    if (std::fabs(double{data.y[at]} - sum) <= allowed) continue;
    throw Error(ErrorKind::numeric, fmt::format("{}: element {} is {}, not {}", name, at, data.y[at], sum),
                "report this with the output of lscpu");
  }
}

Part part(const std::string& name, const Shape& s, const Storage& storage) {
  return {name, [name, s, storage] {
            const auto data = std::make_shared<Data>(s, storage);
            const auto call = [data, s] { data->multiply(s.rows); };
            call();
            check(name, s, *data, storage.quantization);
            const auto products = static_cast<double>(s.rows * s.cols * s.depth * s.copies);
            const bool integers = storage.quantization != Quantization::none;
            Work work{.name = name,
                      .bound = storage.bound(),
                      .amount = 2 * products,
                      .unit = integers ? "Gop/s" : "GFLOP/s",
                      .call = call};
            if (s.rows == 1) {
              work.bound = Bound::read;
              work.unit = "GB/s";
              work.amount = products * bytes_per_weight(storage.quantization, storage.type);
            }
            return work;
          }};
}

// The four products of a decoder layer, one after the other: `linear.bf16`, `linear.int8`.
Part layer_part(const std::string& name, const Storage& storage) {
  return {name, [name, storage] {
            std::vector<Work> products;
            for (const Shape& s : std::span(kShapes).first(4))
              products.push_back(part(name, s, storage).make());
            Work work = products.front();
            work.amount = 0;
            for (const Work& product : products) work.amount += product.amount;
            work.call = [products] {
              for (const Work& product : products) product.call();
            };
            return work;
          }};
}

// Every row of the last product must have the bits that it has alone.
void check_rows(const std::string& name, const Shape& s, Data& data) {
  const Linear& layer = data.layers.back();
  data.apply(layer, data.x.data(), s.rows, data.y.data());
  Buffer<float> alone(s.cols);
  for (int64_t r = 0; r < s.rows; ++r) {
    data.apply(layer, data.x.data() + r * s.depth, 1, alone.data());
    if (std::equal(alone.data(), alone.data() + s.cols, data.y.data() + r * s.cols)) continue;
    throw Error(ErrorKind::numeric,
                fmt::format("{}: row {} of {} differs from itself alone", name, r, s.rows),
                "report this with the output of lscpu");
  }
}

// The projections of a decode step of so many rows: `linear.decode.8.bf16`. Bound by reading the weights or
// by multiplying them, whichever takes longer here.
Part step_part(const std::string& name, int64_t rows, const Storage& storage) {
  return {name, [name, rows, storage] {
            std::vector<std::shared_ptr<Data>> parts;  // of a layer, then the head
            Work work;
            work.name = name;
            work.bound = storage.bound();
            work.unit = storage.quantization != Quantization::none ? "Gop/s" : "GFLOP/s";
            std::vector<Shape> shapes(std::begin(kShapes), std::begin(kShapes) + 4);
            for (Shape& s : shapes) s.copies = kLayersHeld;
            shapes.push_back(kDecode[3]);
            for (Shape& s : shapes) {
              s.rows = rows;
              parts.push_back(std::make_shared<Data>(s, storage));
              check_rows(name, s, *parts.back());
              check(name, s, *parts.back(), storage.quantization);
              const auto weights = static_cast<double>(s.cols * s.depth * (s.copies == 1 ? 1 : kLayers));
              work.amount += 2 * weights * static_cast<double>(rows);
              work.bytes += weights * bytes_per_weight(storage.quantization, storage.type);
            }
            work.call = [parts, rows] {
              const auto apply = [&](Data& data, int64_t l) {
                data.apply(data.layers[static_cast<size_t>(l) % data.layers.size()], data.x.data(), rows,
                           data.y.data());
              };
              for (int64_t l = 0; l < kLayers; ++l) {
                for (size_t i = 0; i + 1 < parts.size(); ++i) apply(*parts[i], l);
              }
              apply(*parts.back(), 0);
            };
            return work;
          }};
}

}  // namespace

std::vector<Part> linear_parts() {
  constexpr std::pair<const char*, Storage> kStorages[] = {{"bf16", {DType::bf16}},
                                                           {"fp32", {DType::f32}},
                                                           {"int8", {DType::bf16, Quantization::w8a8}},
                                                           {"int4", {DType::bf16, Quantization::int4}}};
  std::vector<Part> parts;
  for (const auto& [name, storage] : kStorages)
    parts.push_back(layer_part(fmt::format("linear.{}", name), storage));
  for (const auto& [name, storage] : kStorages) {
    if (storage.type == DType::f32) continue;
    for (const Shape& s : kShapes)
      parts.push_back(part(fmt::format("linear.{}.{}", name, s.name), s, storage));
    for (const Shape& s : kDecode) {
      parts.push_back(part(fmt::format("linear.decode.{}.{}", name, s.name), s, storage));
    }
    for (const int64_t rows : kBatches) {
      parts.push_back(step_part(fmt::format("linear.decode.{}.{}", rows, name), rows, storage));
    }
  }
  return parts;
}

}  // namespace fovea::bench
