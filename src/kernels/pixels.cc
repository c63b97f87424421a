#include "kernels/pixels.h"

#include <string_view>

#include "kernels/kernels.h"

namespace fovea {

extern const PixelKernels kScalarPixelKernels;
#ifdef __x86_64__
extern const PixelKernels kAvx2PixelKernels;
#endif

const PixelKernels& pixel_kernels() {
#ifdef __x86_64__
  static const PixelKernels& chosen =
      std::string_view(kernels().name) == kScalarPixelKernels.name ? kScalarPixelKernels : kAvx2PixelKernels;
#else
  static const PixelKernels& chosen = kScalarPixelKernels;
#endif
  return chosen;
}

}  // namespace fovea
