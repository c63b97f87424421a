// Goal: every variant multiplies every shape within its rounding bound, touches nothing else, and gives bits
// that do not depend on how rows and columns are split. Method: f64 sums over a table of shapes with operands
// that end at inaccessible pages, NaN between their rows and canaries around y; bound gamma(n) * sum |x||w|
// with n counted from the documented order of the sum (Higham 2002, 3.1).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

constexpr int64_t kRowCounts[] = {0, 1, 2, 3, 4, 5, 6, 7, 13, 64};
constexpr int64_t kColCounts[] = {1, 2, 3, 4, 7, 8, 9, 48, 49, 97};
constexpr int64_t kDepths[] = {0, 1, 7, 8, 15, 16, 31, 32, 33, 64, 80, 128, 1023, 1024, 1025, 2049, 3420};
constexpr int64_t kMaxRows = 64, kMaxCols = 97, kMaxDepth = 3420;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kCanary = -7.0625e18f;

template <typename W>
using MatmulNt =
    std::function<void(const float*, int64_t, const W*, int64_t, float*, int64_t, int64_t, int64_t, int64_t)>;

// Packs the rows of x, into exactly the memory it may use, and multiplies.
MatmulNt<uint16_t> packing(const Kernels& kernels) {
  return [&kernels](const float* x, int64_t ldx, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                    int64_t rows, int64_t cols, int64_t k) {
    const auto up = [](int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; };
    const GuardedArray<uint16_t> packed(up(rows, Kernels::kBf16Rows) * up(k, kernels.bf16_depth_unit));
    kernels.pack_bf16_rows(x, ldx, rows, k, packed.data());
    // A hint is a hint: what cannot be read does no harm.
    kernels.matmul_nt_bf16_bf16(packed.data(), w, ldw, y, ldy, rows, cols, k, {w + cols * ldw, cols * k * 2},
                                testing_scratch(kernels.bf16_scratch));
  };
}
// Weights of 16 bits against rows of f32.
MatmulNt<uint16_t> widening(const Kernels& kernels, DType type) {
  const auto matmul = type == DType::bf16 ? kernels.matmul_nt_bf16 : kernels.matmul_nt_f16;
  return [&kernels, matmul](const float* x, int64_t ldx, const uint16_t* w, int64_t ldw, float* y,
                            int64_t ldy, int64_t rows, int64_t cols, int64_t k) {
    matmul(x, ldx, w, ldw, y, ldy, rows, cols, k, testing_scratch(kernels.widening_scratch(k)));
  };
}

// gamma(n) = n u / (1 - n u), u = 2^-24: the relative error of n roundings one after the other.
double gamma_of(int64_t roundings) {
  const double error = static_cast<double>(roundings) * 0x1p-24;
  return error / (1 - error);
}

// How many roundings one product x * w passes through on its way into y.
int64_t roundings_of(const Variant& variant, int64_t k, bool dot_pairs) {
  // Tiles of 32: 16 even and 16 odd products are summed, the two sums added, then those of all tiles.
  if (dot_pairs && variant.tiles()) return std::min<int64_t>(k, 16) + 1 + (k + 31) / 32;
  const int64_t block = dot_pairs ? 2048 : 1024, step = variant.width * (dot_pairs ? 2 : 1);
  const int64_t steps = (std::min(k, block) + step - 1) / step;  // sequential in a lane
  const int64_t lanes = variant.width == 16 ? 4 : 3;             // the tree over the lanes
  const int64_t blocks = (k + block - 1) / block;                // added to y one after the other
  return steps * (dot_pairs ? 2 : 1) + (variant.fused ? 0 : 1) + lanes + blocks;
}

template <typename T>
T stored(float value, DType type) {
  if constexpr (sizeof(T) == 2) {
    return type == DType::bf16 ? bf16_from_f32(value) : f16_from_f32(value);
  } else {
    return value;
  }
}

// Operands in their storage types, and for every depth of the table sum x w and sum |x||w| in f64.
struct Reference {
  DType x_type, w_type;
  std::vector<float> x, w;
  std::vector<std::vector<double>> sums, magnitudes;  // [depth][row * kMaxCols + col]

  Reference(DType of_x, DType of_w) : x_type(of_x), w_type(of_w) {
    Random random("matmul_nt");
    for (int64_t i = 0; i < kMaxRows * kMaxDepth; ++i) x.push_back(rounded(random.value(), x_type));
    for (int64_t i = 0; i < kMaxCols * kMaxDepth; ++i) w.push_back(rounded(random.value(), w_type));
    sums.assign(std::size(kDepths), std::vector<double>(kMaxRows * kMaxCols));
    magnitudes = sums;
    for (int64_t m = 0; m < kMaxRows; ++m) {
      for (int64_t n = 0; n < kMaxCols; ++n) add_prefixes(m, n);
    }
  }

 private:
  void add_prefixes(int64_t m, int64_t n) {
    double sum = 0, magnitude = 0;
    int64_t at = 0;
    for (size_t depth = 0; depth < std::size(kDepths); ++depth) {
      for (; at < kDepths[depth]; ++at) {
        const double product = double{x[m * kMaxDepth + at]} * double{w[n * kMaxDepth + at]};
        sum += product;
        magnitude += std::fabs(product);
      }
      sums[depth][m * kMaxCols + n] = sum;
      magnitudes[depth][m * kMaxCols + n] = magnitude;
    }
  }
};

// The first rows x k of `values`, rows `gap` apart with NaN between.
template <typename T>
std::unique_ptr<GuardedMatrix<T>> laid_out(const std::vector<float>& values, DType type, int64_t rows,
                                           int64_t k, int64_t gap) {
  auto matrix = std::make_unique<GuardedMatrix<T>>(rows, k, gap, stored<T>(kNan, type));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k; ++i) matrix->row(r)[i] = stored<T>(values[r * kMaxDepth + i], type);
  }
  return matrix;
}

// A row of canaries stands before y, a gap between its rows, and an inaccessible page after it.
struct GuardedResult {
  GuardedMatrix<float> all;
  GuardedResult(int64_t rows, int64_t cols) : all(rows + 1, cols, 3, kCanary) {}
  float* data() const { return all.data() + all.stride; }
  float at(int64_t m, int64_t n) const { return all.row(m + 1)[n]; }
  bool surroundings_untouched() const {
    for (int64_t i = 0; i < all.elements.size(); ++i) {
      if ((i < all.stride || i % all.stride >= all.cols) && all.elements[i] != kCanary) return false;
    }
    return true;
  }
};

template <typename W>
class Checker {
 public:
  Checker(Variant variant, MatmulNt<W> matmul, const Reference& reference)
      : variant_(variant), matmul_(std::move(matmul)), reference_(reference) {}

  void check_all_shapes() const {
    for (size_t depth = 0; depth < std::size(kDepths); ++depth) {
      const int64_t k = kDepths[depth];
      std::vector<std::unique_ptr<GuardedMatrix<float>>> xs;
      std::vector<std::unique_ptr<GuardedMatrix<W>>> ws;
      for (const int64_t rows : kRowCounts)
        xs.push_back(laid_out<float>(reference_.x, DType::f32, rows, k, 5));
      for (const int64_t cols : kColCounts)
        ws.push_back(laid_out<W>(reference_.w, reference_.w_type, cols, k, 3));
      for (const auto& x : xs) {
        for (const auto& w : ws) ASSERT_NO_FATAL_FAILURE(check_shape(*x, *w, depth));
      }
    }
  }

  // Splitting rows and columns, down to one, must not change a bit.
  void check_splits(int64_t rows, int64_t cols, int64_t k) const {
    const auto x = laid_out<float>(reference_.x, DType::f32, rows, k, 5);
    const auto w = laid_out<W>(reference_.w, reference_.w_type, cols, k, 3);
    std::vector<float> whole(static_cast<size_t>(rows * cols), kCanary), pieces = whole;
    multiply(*x, *w, 0, rows, 0, cols, whole);
    for (const int64_t row_step : {int64_t{1}, int64_t{2}, int64_t{5}, rows}) {
      for (const int64_t col_step : {int64_t{1}, int64_t{7}, int64_t{48}, cols}) {
        std::fill(pieces.begin(), pieces.end(), kCanary);
        for (int64_t m = 0; m < rows; m += row_step) {
          for (int64_t n = 0; n < cols; n += col_step) {
            multiply(*x, *w, m, std::min(rows, m + row_step), n, std::min(cols, n + col_step), pieces);
          }
        }
        ASSERT_EQ(std::memcmp(whole.data(), pieces.data(), whole.size() * sizeof(float)), 0)
            << variant_.kernels->name << " rows " << rows << " by " << row_step << ", cols " << cols << " by "
            << col_step << ", k " << k;
      }
    }
  }

  // Every count of rows up to the largest must give each row the bits it has alone.
  void check_row_counts(int64_t cols, int64_t k) const {
    constexpr int64_t kMost = Kernels::kFewRows;
    const auto x = laid_out<float>(reference_.x, DType::f32, kMost, k, 5);
    const auto w = laid_out<W>(reference_.w, reference_.w_type, cols, k, 3);
    std::vector<float> alone(static_cast<size_t>(kMost * cols), kCanary);
    for (int64_t m = 0; m < kMost; ++m) multiply(*x, *w, m, m + 1, 0, cols, alone);
    for (int64_t rows = 1; rows <= kMost; ++rows) {
      std::vector<float> together(alone.size(), kCanary);
      multiply(*x, *w, 0, rows, 0, cols, together);
      ASSERT_EQ(std::memcmp(together.data(), alone.data(), static_cast<size_t>(rows * cols) * sizeof(float)),
                0)
          << variant_.kernels->name << " rows " << rows << ", cols " << cols << ", k " << k;
      ASSERT_TRUE(std::all_of(together.begin() + rows * cols, together.end(),
                              [](float value) { return value == kCanary; }));
    }
  }

 private:
  void multiply(const GuardedMatrix<float>& x, const GuardedMatrix<W>& w, int64_t row, int64_t row_end,
                int64_t col, int64_t col_end, std::vector<float>& y) const {
    matmul_(x.row(row), x.stride, w.row(col), w.stride, y.data() + row * w.rows + col, w.rows, row_end - row,
            col_end - col, x.cols);
  }

  void check_shape(const GuardedMatrix<float>& x, const GuardedMatrix<W>& w, size_t depth) const {
    const int64_t k = kDepths[depth];
    const double gamma = gamma_of(roundings_of(variant_, k, reference_.x_type == DType::bf16));
    const GuardedResult y(x.rows, w.rows);
    matmul_(x.data(), x.stride, w.data(), w.stride, y.data(), y.all.stride, x.rows, w.rows, k);
    ASSERT_TRUE(y.surroundings_untouched()) << x.rows << " x " << w.rows << " x " << k;
    for (int64_t m = 0; m < x.rows; ++m) {
      for (int64_t n = 0; n < w.rows; ++n) {
        const double wanted = reference_.sums[depth][m * kMaxCols + n];
        const double bound = gamma * reference_.magnitudes[depth][m * kMaxCols + n];
        // Written so that NaN fails.
        ASSERT_TRUE(std::fabs(y.at(m, n) - wanted) <= bound)
            << variant_.kernels->name << " " << x.rows << " x " << w.rows << " x " << k << " at (" << m
            << ", " << n << "): " << y.at(m, n) << ", wanted " << wanted << " +- " << bound;
      }
    }
  }

  Variant variant_;
  MatmulNt<W> matmul_;
  const Reference& reference_;
};

const Reference& reference_for(DType x_type, DType w_type) {
  static const Reference f32(DType::f32, DType::f32), bf16(DType::f32, DType::bf16),
      f16(DType::f32, DType::f16), both(DType::bf16, DType::bf16);
  if (x_type == DType::bf16) return both;
  return w_type == DType::f32 ? f32 : w_type == DType::bf16 ? bf16 : f16;
}

class Matmul : public testing::TestWithParam<Variant> {
 protected:
  const Kernels& kernels() const { return *GetParam().kernels; }

  // Calls test(checker) for every product of operand types that the variant has.
  template <typename Test>
  void for_every_type(Test test) {
    const Variant v = GetParam();
    test(Checker<float>(v, kernels().matmul_nt_f32, reference_for(DType::f32, DType::f32)));
    test(Checker<uint16_t>(v, widening(kernels(), DType::bf16), reference_for(DType::f32, DType::bf16)));
    test(Checker<uint16_t>(v, widening(kernels(), DType::f16), reference_for(DType::f32, DType::f16)));
    if (kernels().matmul_nt_bf16_bf16 != nullptr) {
      test(Checker<uint16_t>(v, packing(kernels()), reference_for(DType::bf16, DType::bf16)));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, Matmul, testing::ValuesIn(all_variants()), kVariantName);

TEST_P(Matmul, EveryShapeIsWithinItsBoundAndItsMemory) {
  for_every_type([](const auto& checker) { ASSERT_NO_FATAL_FAILURE(checker.check_all_shapes()); });
}

TEST_P(Matmul, BitsDoNotDependOnTheSplitOfRowsAndColumns) {
  // What an emulation computes in a second takes the machine a millisecond: the last depth is left to the
  // machine.
  std::vector<int64_t> depths{1, 33, 1025, 3420};
  if (std::string_view(kernels().name).ends_with("emulated")) depths.pop_back();
  for_every_type([&](const auto& checker) {
    for (const int64_t k : depths) {
      ASSERT_NO_FATAL_FAILURE(checker.check_splits(13, 97, k));
      ASSERT_NO_FATAL_FAILURE(checker.check_splits(64, 49, k));
    }
  });
}

TEST_P(Matmul, EveryCountOfFewRowsHasTheBitsOfEachRowAlone) {
  static_assert(Kernels::kFewRows <= kMaxRows);
  // Emulations are slow: all counts, but few columns.
  const bool emulated = std::string_view(kernels().name).ends_with("emulated");
  for_every_type([&](const auto& checker) {
    ASSERT_NO_FATAL_FAILURE(checker.check_row_counts(emulated ? 9 : 97, 1091));
    ASSERT_NO_FATAL_FAILURE(checker.check_row_counts(emulated ? 5 : 49, 2063));
  });
}

struct Bf16Product {
  int64_t rows, cols, k;
  std::vector<float> x;
  std::vector<uint16_t> w;

  Bf16Product(int64_t row_count, int64_t col_count, int64_t depth)
      : rows(row_count), cols(col_count), k(depth) {
    Random random("bf16 product");
    for (int64_t i = 0; i < rows * k; ++i) x.push_back(rounded(random.value(), DType::bf16));
    for (int64_t i = 0; i < cols * k; ++i) w.push_back(bf16_from_f32(random.value()));
  }
  // In pieces of so many rows and columns.
  std::vector<float> result(const Kernels& kernels, int64_t row_step, int64_t col_step) const {
    std::vector<float> y(static_cast<size_t>(rows * cols));
    for (int64_t m = 0; m < rows; m += row_step) {
      for (int64_t n = 0; n < cols; n += col_step) {
        packing(kernels)(x.data() + m * k, k, w.data() + n * k, k, y.data() + m * cols + n, cols,
                         std::min(row_step, rows - m), std::min(col_step, cols - n), k);
      }
    }
    return y;
  }
};

// More rows, columns and depth than any variant takes at once.
TEST_P(Matmul, LargeBf16ProductsHaveTheBitsOfSmallOnes) {
  if (kernels().matmul_nt_bf16_bf16 == nullptr) GTEST_SKIP() << "a variant without native bf16";
  const Bf16Product product(530, 275, 1100);
  EXPECT_EQ(product.result(kernels(), 530, 275), product.result(kernels(), 33, 48));
}

TEST_P(Matmul, SixteenBitWeightsEqualTheirWidenedCopies) {
  for (const DType type : {DType::bf16, DType::f16}) {
    const Reference& reference = reference_for(DType::f32, type);
    for (const int64_t rows : {1, 4, 64}) {
      for (const int64_t k : {80, 2049}) {
        const auto x = laid_out<float>(reference.x, DType::f32, rows, k, 0);
        const auto narrow = laid_out<uint16_t>(reference.w, type, kMaxCols, k, 0);
        const auto wide = laid_out<float>(reference.w, DType::f32, kMaxCols, k, 0);
        std::vector<float> y(static_cast<size_t>(rows * kMaxCols)), wanted = y;
        widening(kernels(), type)(x->data(), k, narrow->data(), k, y.data(), kMaxCols, rows, kMaxCols, k);
        kernels().matmul_nt_f32(x->data(), k, wide->data(), k, wanted.data(), kMaxCols, rows, kMaxCols, k);
        ASSERT_EQ(y, wanted) << name_of(type) << " rows " << rows << " k " << k;
      }
    }
  }
}

// y += p v with k ascending leaves no freedom: a plain loop gives the same bits.
void check_nn(const Variant& variant, int64_t rows, int64_t cols, int64_t k, int64_t row_step,
              int64_t col_step) {
  Random random("matmul_nn");
  const GuardedMatrix<float> p(rows, k, 5, kNan), v(k, cols, 2, kNan);
  const GuardedResult y(rows, cols);
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t i = 0; i < k; ++i) p.row(m)[i] = random.value();
    for (int64_t n = 0; n < cols; ++n) y.all.row(m + 1)[n] = random.value();
  }
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t n = 0; n < cols; ++n) v.row(i)[n] = random.value();
  }
  std::vector<float> wanted;
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < cols; ++n) {
      float sum = y.at(m, n);
      for (int64_t i = 0; i < k; ++i) {
        const float a = p.row(m)[i], b = v.row(i)[n];
        sum = variant.fused ? std::fma(a, b, sum) : a * b + sum;
      }
      wanted.push_back(sum);
    }
  }
  for (int64_t m = 0; m < rows; m += row_step) {
    for (int64_t n = 0; n < cols; n += col_step) {
      variant.kernels->matmul_nn_f32(p.row(m), p.stride, v.data() + n, v.stride,
                                     y.data() + m * y.all.stride + n, y.all.stride,
                                     std::min(row_step, rows - m), std::min(col_step, cols - n), k);
    }
  }
  ASSERT_TRUE(y.surroundings_untouched());
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < cols; ++n) {
      ASSERT_EQ(y.at(m, n), wanted[m * cols + n])
          << rows << " x " << cols << " x " << k << " at " << m << "," << n;
    }
  }
}

TEST_P(Matmul, ProbabilitiesTimesValuesAccumulateInOrderOfK) {
  for (const int64_t rows : kRowCounts) {
    for (const int64_t cols : {1, 2, 7, 8, 9, 16, 17, 48, 49, 64, 80, 97, 128}) {
      for (const int64_t k : {0, 1, 7, 33, 128}) {
        ASSERT_NO_FATAL_FAILURE(check_nn(GetParam(), rows, cols, k, std::max<int64_t>(rows, 1), cols));
      }
    }
  }
  for (const int64_t row_step : {1, 3, 5}) {
    for (const int64_t col_step : {1, 13, 40})
      ASSERT_NO_FATAL_FAILURE(check_nn(GetParam(), 13, 97, 65, row_step, col_step));
  }
}

TEST_P(Matmul, ANanInOneRowOrColumnStaysThere) {
  constexpr int64_t kRows = 13, kCols = 49, kDepth = 1025;
  std::vector<float> x(kRows * kDepth, 1.f), w(kCols * kDepth, 1.f), y(kRows * kCols);
  x[5 * kDepth + 1024] = kNan;
  w[48 * kDepth] = kNan;
  kernels().matmul_nt_f32(x.data(), kDepth, w.data(), kDepth, y.data(), kCols, kRows, kCols, kDepth);
  for (int64_t m = 0; m < kRows; ++m) {
    for (int64_t n = 0; n < kCols; ++n) {
      if (m == 5 || n == 48)
        ASSERT_TRUE(std::isnan(y[m * kCols + n])) << m << ", " << n;
      else
        ASSERT_EQ(y[m * kCols + n], float{kDepth}) << m << ", " << n;
    }
  }
}

// Where the machine has AVX-512, the emulation must be the machine, bit for bit. (Not asked of the bf16 dot
// product: whether every maker adds the two products in Intel's order is not known to us; its bound is tested
// above.)
TEST(Avx512Emulation, GivesTheBitsOfTheHardware) {
#ifdef __x86_64__
  int compared = 0;
  for (const Kernels* native : available_kernels()) {
    if (!std::string_view(native->name).starts_with("avx512")) continue;
    const Reference& reference = reference_for(DType::f32, DType::bf16);
    std::vector<float> y(kMaxRows * kMaxCols), wanted = y;
    const auto w = laid_out<uint16_t>(reference.w, DType::bf16, kMaxCols, kMaxDepth, 0);
    for (auto [kernels, result] : {std::pair(native, &y), std::pair(&kAvx512EmulatedKernels, &wanted)}) {
      kernels->matmul_nt_bf16(reference.x.data(), kMaxDepth, w->data(), kMaxDepth, result->data(), kMaxCols,
                              kMaxRows, kMaxCols, kMaxDepth,
                              testing_scratch(kernels->widening_scratch(kMaxDepth)));
    }
    EXPECT_EQ(y, wanted) << native->name;
    ++compared;
  }
  if (compared == 0) GTEST_SKIP() << "this machine has no AVX-512";
#else
  GTEST_SKIP() << "not an x86-64 machine";
#endif
}

TEST(AmxEmulation, GivesTheBitsOfTheHardware) {
#ifdef __x86_64__
  int compared = 0;
  for (const Kernels* native : available_kernels()) {
    if (native->name != std::string_view("amx")) continue;
    const Bf16Product product(37, 50, 1100);
    EXPECT_EQ(product.result(*native, 37, 50), product.result(kAmxEmulatedKernels, 37, 50));
    ++compared;
  }
  if (compared == 0) GTEST_SKIP() << "this machine has no AMX";
#else
  GTEST_SKIP() << "not an x86-64 machine";
#endif
}

}  // namespace
}  // namespace fovea
