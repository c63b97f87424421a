// Antialiased bicubic resampling (Keys' cubic, a = -0.5), as Pillow and as PyTorch compute it.
#pragma once

#include "media/image.h"

namespace fovea {

// All use the same filter and taps; they differ in how a weighted sum is rounded and in which pass comes
// first. That matters more than it seems: the 8 bits between two passes clip overshoots, by 10 and more near
// hard edges.
enum class Bicubic {
  pil_12,     // Pillow's Image.resize up to 12.x: 22-bit weights, 8 bits between the passes; bit-exact
  pil,        // the same as of Pillow 13.0, which resamples columns first where that saves work; bit-exact
  torch_u8,   // torch interpolate(antialias=True) of uint8 (the fast image processor): 15-bit weights;
              // bit-exact
  torch_f32,  // the same of float32, then clamp and round (qwen_vl_utils' videos): one rounding at the end
};

// Rows are resampled first, then columns, except by `pil` when the height shrinks by more than twice what the
// width does (ImagingResampleInner of Pillow 13.0.0). A pass that would not change the size is skipped.
Image resample_bicubic(const Image& image, ImageSize size, Bicubic arithmetic);

}  // namespace fovea
