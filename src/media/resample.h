// Antialiased bicubic resampling (Keys' cubic, a = -0.5), as Pillow and as PyTorch compute it.
#pragma once

#include "media/image.h"

namespace fovea {

// All three use the same filter and taps; they differ in how a weighted sum is rounded.
enum class Bicubic {
  pil,        // Pillow's Image.resize: weights in 22-bit fixed point, 8 bits between the passes; bit-exact
  torch_u8,   // torch interpolate(antialias=True) of uint8 (the fast image processor): 15-bit weights; bit-exact
  torch_f32,  // the same of float32, then clamp and round (qwen_vl_utils' videos): one rounding at the end
};

// Rows are resampled first, then columns; a pass that would not change the size is skipped.
Image resample_bicubic(const Image& image, ImageSize size, Bicubic arithmetic);

}  // namespace fovea
