// What a configuration computes, in one line for people.
#pragma once

#include <string>

#include "attention/guard.h"
#include "base/precision.h"

namespace fovea {

// "bf16; attention scores rounded to bf16 before softmax". From what is computed, so that it also says what a
// preset's settings change of it.
std::string describe(const Precision& precision, GuardMode guard);

}  // namespace fovea
