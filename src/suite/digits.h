// Real handwritten digits: 1,797 pictures of 8 x 8 pixels by 43 people (Optical Recognition of Handwritten
// Digits, UCI Machine Learning Repository, CC BY 4.0), compiled into the program; tools/make_suite_digits.py
// packs them.
#pragma once

#include <array>
#include <cstdint>

#include "suite/random.h"

namespace fovea {

// Which pictures may be drawn: the demo model has seen `seen` ones in training, `unseen` ones (every fifth)
// never.
enum class DigitPool { unseen, seen };

struct HandwrittenDigit {
  int64_t value = 0;                   // 0 .. 9
  std::array<float, 64> ink{};         // row by row, 0 (paper) .. 1 (ink)
  float at(double x, double y) const;  // bilinear, x and y in [0, 8); 0 outside
};

// A picture of the digit `value` from the pool.
HandwrittenDigit draw_digit(int64_t value, DigitPool pool, SuiteRandom& random);

}  // namespace fovea
