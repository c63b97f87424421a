#include "suite/card.h"

#include <png.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/output_file.h"

namespace fovea {
namespace {

using Colour = std::array<double, 3>;

constexpr std::array<Colour, 8> kShades{{{200, 40, 40},
                                         {40, 150, 60},
                                         {45, 75, 200},
                                         {235, 205, 50},
                                         {130, 50, 160},
                                         {240, 135, 30},
                                         {60, 195, 215},
                                         {115, 75, 45}}};

// Everything random about one picture, in pixels.
struct Layout {
  double centre_x, centre_y, radius;           // of the shape
  double digit_x, digit_y, digit_size, slant;  // of the digit: centre, side of its square, radians
  Colour ground, shade, ink;
};

Colour jitter(const Colour& colour, double amount, SuiteRandom& random) {
  Colour out;
  for (size_t i = 0; i < 3; ++i) out[i] = std::clamp(colour[i] + random.uniform(-amount, amount), 0.0, 255.0);
  return out;
}

Layout lay_out(const Card& card, int64_t width, int64_t height, SuiteRandom& random) {
  Layout layout;
  const double side = static_cast<double>(std::min(width, height));
  layout.radius = side * random.uniform(0.38, 0.46);
  const auto place = [&](int64_t extent) {
    const double room = static_cast<double>(extent) / 2 - layout.radius;
    return static_cast<double>(extent) / 2 + random.uniform(-room, room);
  };
  layout.centre_x = place(width);
  layout.centre_y = place(height);
  // A triangle has its room below the middle.
  const bool triangle = kShapes[card.shape] == "triangle";
  layout.digit_size = layout.radius * random.uniform(0.95, 1.1) * (triangle ? 0.8 : 1.1);
  layout.digit_x = layout.centre_x + layout.radius * random.uniform(-0.06, 0.06);
  layout.digit_y = layout.centre_y + layout.radius * (random.uniform(-0.06, 0.06) + (triangle ? 0.36 : 0));
  layout.slant = random.uniform(-0.2, 0.2);
  const double grey = random.uniform(215, 250);
  layout.ground = jitter({grey, grey, grey}, 5, random);
  layout.shade = jitter(kShades[card.colour], 12, random);
  const double luminance = 0.299 * layout.shade[0] + 0.587 * layout.shade[1] + 0.114 * layout.shade[2];
  layout.ink = luminance > 140 ? Colour{15, 15, 15} : Colour{250, 250, 250};
  return layout;
}

// How far (x, y), relative to the shape's centre and in units of its radius, lies inside: > 0 inside.
double depth_inside(std::string_view shape, double x, double y) {
  if (shape == "circle") return 1 - std::hypot(x, y);
  if (shape == "square") return 0.86 - std::max(std::abs(x), std::abs(y));
  if (shape == "diamond") return (1.12 - std::abs(x) - std::abs(y)) / std::sqrt(2.0);
  // triangle: apex (0, -1), base from (-1.05, 0.9) to (1.05, 0.9)
  return std::min(0.9 - y, (y + 1 - std::abs(x) * 1.81) / 2.07);
}

double ink_at(const HandwrittenDigit& digit, const Layout& layout, double x, double y) {
  const double dx = x - layout.digit_x, dy = y - layout.digit_y;
  const double c = std::cos(layout.slant), s = std::sin(layout.slant), scale = 8 / layout.digit_size;
  const double level = digit.at(4 + (c * dx + s * dy) * scale, 4 + (c * dy - s * dx) * scale);
  // Steeper than the scan: strokes stay crisp when enlarged.
  return std::clamp((level - 0.3) / 0.35, 0.0, 1.0);
}

}  // namespace

CardImage draw_card(const Card& card, DigitPool pool, SuiteRandom& random) {
  constexpr std::array<int64_t, 8> kSides{84, 84, 84, 112, 112, 112, 112, 140};
  const auto side = [&] { return kSides[static_cast<size_t>(random.below(kSides.size()))]; };
  CardImage image;
  image.width = side();
  image.height = side();
  const Layout layout = lay_out(card, image.width, image.height, random);
  const HandwrittenDigit digit = draw_digit(card.number, pool, random);
  image.rgb.resize(static_cast<size_t>(image.width * image.height * 3));
  for (int64_t row = 0; row < image.height; ++row) {
    for (int64_t column = 0; column < image.width; ++column) {
      const double x = static_cast<double>(column) + 0.5, y = static_cast<double>(row) + 0.5;
      const double depth = depth_inside(kShapes[card.shape], (x - layout.centre_x) / layout.radius,
                                        (y - layout.centre_y) / layout.radius);
      const double inside = std::clamp(depth * layout.radius + 0.5, 0.0, 1.0);
      const double ink = ink_at(digit, layout, x, y);
      const double grain = random.uniform(-4, 4);
      for (size_t c = 0; c < 3; ++c) {
        double value = layout.ground[c] + (layout.shade[c] - layout.ground[c]) * inside;
        value += (layout.ink[c] - value) * ink + grain;
        image.rgb[static_cast<size_t>((row * image.width + column) * 3) + c] =
            static_cast<uint8_t>(std::clamp(value + 0.5, 0.0, 255.0));
      }
    }
  }
  return image;
}

void write_png(const std::filesystem::path& path, const CardImage& image) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  png.flags = PNG_IMAGE_FLAG_FAST;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<char> bytes(size);
  if (png_image_write_to_memory(&png, bytes.data(), &size, 0, image.rgb.data(), 0, nullptr) == 0) {
    throw Error(ErrorKind::invalid_argument, fmt::format("cannot encode {}: {}", path.string(), png.message),
                "ask for cards of another size");
  }
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) fail_to_write("create", path, errno);
  const bool written = std::fwrite(bytes.data(), 1, size, file) == size && std::fflush(file) == 0;
  const int reason = errno;
  std::fclose(file);
  if (!written) fail_to_write("write", path, reason);
}

}  // namespace fovea
