#include "suite/digits.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

// Defined in digits.S.in.
extern "C" {
extern const uint8_t fovea_digits[];
extern const uint8_t fovea_digits_end[];
}

namespace fovea {
namespace {

constexpr size_t kRecordBytes = 33;  // label, then 64 pixels of 4 bits
constexpr size_t kUnseenEvery = 5;

// Record numbers by pool and digit.
using Index = std::array<std::array<std::vector<size_t>, 10>, 2>;

Index make_index() {
  Index index;
  const auto count = static_cast<size_t>(fovea_digits_end - fovea_digits) / kRecordBytes;
  for (size_t i = 0; i < count; ++i) {
    const auto pool = static_cast<size_t>(i % kUnseenEvery == 0 ? DigitPool::unseen : DigitPool::seen);
    index[pool][fovea_digits[i * kRecordBytes]].push_back(i);
  }
  return index;
}

}  // namespace

float HandwrittenDigit::at(double x, double y) const {
  const double left = std::floor(x - 0.5), top = std::floor(y - 0.5);
  const auto pixel = [&](double column, double row) {
    if (column < 0 || column > 7 || row < 0 || row > 7) return 0.0;
    return static_cast<double>(ink[static_cast<size_t>(row) * 8 + static_cast<size_t>(column)]);
  };
  const double fx = x - 0.5 - left, fy = y - 0.5 - top;
  const double upper = pixel(left, top) * (1 - fx) + pixel(left + 1, top) * fx;
  const double lower = pixel(left, top + 1) * (1 - fx) + pixel(left + 1, top + 1) * fx;
  return static_cast<float>(upper * (1 - fy) + lower * fy);
}

HandwrittenDigit draw_digit(int64_t value, DigitPool pool, SuiteRandom& random) {
  static const Index index = make_index();
  const auto& candidates = index[static_cast<size_t>(pool)].at(static_cast<size_t>(value));
  const uint8_t* record =
      fovea_digits +
      candidates[static_cast<size_t>(random.below(static_cast<int64_t>(candidates.size())))] * kRecordBytes;
  HandwrittenDigit digit;
  digit.value = value;
  for (size_t i = 0; i < 64; ++i) {
    const int half = i % 2 == 0 ? record[1 + i / 2] & 15 : record[1 + i / 2] >> 4;
    digit.ink[i] = static_cast<float>(half) / 15.f;
  }
  return digit;
}

}  // namespace fovea
