// Goal: a packed matrix says the weights that its products use, and borrowing its bytes changes nothing.
// Method: products with unit vectors, which quantize exactly, on shapes that fill and do not fill blocks and
// groups; each is one weight, scaled twice in f32.
#include "model/quantized_matrix.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/kernels.h"

namespace fovea {
namespace {

std::vector<float> source_values(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = (static_cast<float>(state >> 8) / (1 << 24) - 0.5f) * (1 + static_cast<float>(state % 7));
  }
  return values;
}

// Column k of the matrix by a product.
std::vector<float> column(const QuantizedMatrix& matrix, int64_t cols, int64_t k) {
  std::vector<float> unit(static_cast<size_t>(cols)), result(static_cast<size_t>(matrix.rows()));
  unit[static_cast<size_t>(k)] = 1;
  std::vector<int8_t> values(static_cast<size_t>(matrix.depth()));
  std::vector<int32_t> sums(static_cast<size_t>(matrix.depth() / kQuantGroup));
  const float scale = kernels().quantize_row(unit.data(), cols, values.data(), sums.data());
  matrix.multiply(kernels(),
                  {.x = {values.data(), &scale, sums.data(), matrix.depth()},
                   .y = result.data(),
                   .ldy = matrix.rows(),
                   .rows = 1,
                   .cols = matrix.rows()},
                  0);
  return result;
}

TEST(QuantizedMatrix, WidenedWeightsAreThoseOfProducts) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{16, 64}, {37, 130}, {5, 200}}) {
    const std::vector<float> source = source_values(rows * cols);
    for (const Quantization quantization : {Quantization::w8a8, Quantization::int4}) {
      const QuantizedMatrix made(process_context(), {source.data(), DType::f32, rows, cols, cols},
                                 quantization);
      const QuantizedMatrix matrix = QuantizedMatrix::borrowed(
          made.packed_values().data(), made.packed_scales().data(), rows, cols, quantization);
      ASSERT_EQ(std::ssize(matrix.packed_values()) + std::ssize(matrix.packed_scales()),
                QuantizedMatrix::bytes_for(rows, cols, quantization));
      std::vector<float> wide(static_cast<size_t>(rows * cols));
      for (int64_t r = 0; r < rows; ++r) matrix.widen(r, cols, wide.data() + r * cols);
      for (int64_t k = 0; k < cols; ++k) {
        const std::vector<float> products = column(matrix, cols, k);
        EXPECT_EQ(products, column(made, cols, k));
        for (int64_t r = 0; r < rows; ++r) {
          const float weight = wide[static_cast<size_t>(r * cols + k)];
          // Three roundings: of the unit's scale 1/127, of its product, and of the scale.
          EXPECT_NEAR(products[static_cast<size_t>(r)], weight, std::abs(weight) * 3 * 0x1p-24f)
              << name_of(quantization) << " " << r << " " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fovea
