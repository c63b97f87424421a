// The first frame of a GIF, as Pillow shows it.
#include <algorithm>
#include <array>
#include <memory>
#include <span>

#include "media/decode.h"

namespace fovea {
namespace {

// Consumes the file front to back; running out of bytes means the file was cut off.
struct GifReader {
  Bytes bytes;
  size_t at = 0;

  Bytes take(size_t count) {
    if (bytes.size() - at < count) throw_truncated("GIF");
    at += count;
    return bytes.subspan(at - count, count);
  }
  uint8_t u8() { return take(1)[0]; }
  int64_t u16() {
    const Bytes two = take(2);
    return two[0] | two[1] << 8;
  }
};

struct GifFrame {
  ImageSize screen, size;
  int64_t left = 0, top = 0;
  bool interlaced = false;
  Bytes palette;             // 3 bytes a colour; empty: grey ramp
  uint8_t background = 0;    // index shown where the frame does not reach
  bool transparent = false;  // that index is transparent
};

Bytes read_palette(GifReader& reader, uint8_t flags, Bytes inherited) {
  return flags & 0x80 ? reader.take(size_t{3} << ((flags & 7) + 1)) : inherited;
}

void skip_sub_blocks(GifReader& reader) {
  while (const uint8_t count = reader.u8()) reader.take(count);
}

// Everything up to the compressed data of the first frame.
GifFrame read_until_first_frame(GifReader& reader) {
  GifFrame frame;
  reader.take(6);
  frame.screen.width = reader.u16();
  frame.screen.height = reader.u16();
  const uint8_t flags = reader.u8();
  reader.take(2);
  frame.palette = read_palette(reader, flags, {});
  while (true) {
    const uint8_t block = reader.u8();
    if (block == 0x2c) break;
    if (block == 0x3b) throw_corrupt("GIF", "it holds no frame");
    if (block != 0x21) continue;  // Pillow skips stray bytes
    constexpr uint8_t kGraphicControl = 0xf9;
    const bool control = reader.u8() == kGraphicControl;
    const size_t start = reader.at;
    skip_sub_blocks(reader);
    const Bytes body = reader.bytes.subspan(start, reader.at - start);
    if (control && body.size() > 4 && (body[1] & 1)) {
      frame.background = body[4];
      frame.transparent = true;
    }
  }
  frame.left = reader.u16();
  frame.top = reader.u16();
  frame.size.width = reader.u16();
  frame.size.height = reader.u16();
  const uint8_t frame_flags = reader.u8();
  frame.interlaced = frame_flags & 0x40;
  frame.palette = read_palette(reader, frame_flags, frame.palette);
  // A first frame larger than the screen enlarges it.
  frame.screen.width = std::max(frame.screen.width, frame.left + frame.size.width);
  frame.screen.height = std::max(frame.screen.height, frame.top + frame.size.height);
  return frame;
}

// Variable-width codes, least significant bit first, in sub-blocks of up to 255 bytes.
class CodeReader {
 public:
  explicit CodeReader(GifReader& reader) : reader_(reader) {}
  uint32_t next(int width) {
    while (bit_count_ < width) {
      if (block_left_ == 0) block_left_ = reader_.u8();
      if (block_left_ == 0) throw_truncated("GIF");
      bits_ |= static_cast<uint32_t>(reader_.u8()) << bit_count_;
      bit_count_ += 8;
      --block_left_;
    }
    const uint32_t code = bits_ & ((1u << width) - 1);
    bits_ >>= width;
    bit_count_ -= width;
    return code;
  }

 private:
  GifReader& reader_;
  uint32_t bits_ = 0;
  int bit_count_ = 0, block_left_ = 0;
};

// The LZW dictionary: each entry is a shorter entry and one more index. Too large for a stack.
class Dictionary {
 public:
  static constexpr uint32_t kSizeMax = 4096;
  explicit Dictionary(int literal_bits) : clear_(1u << literal_bits) { reset(); }
  uint32_t clear_code() const { return clear_; }
  uint32_t end_code() const { return clear_ + 1; }
  uint32_t size() const { return size_; }
  void reset() { size_ = clear_ + 2; }

  void add(uint32_t prefix, uint8_t last) {
    if (size_ == kSizeMax) return;
    prefix_[size_] = static_cast<uint16_t>(prefix);
    last_[size_++] = last;
  }
  // The indices of `code`, until the next call.
  std::span<const uint8_t> expand(uint32_t code) {
    size_t count = 0;
    for (; code >= clear_ + 2; code = prefix_[code]) text_[kSizeMax - ++count] = last_[code];
    text_[kSizeMax - ++count] = static_cast<uint8_t>(code);
    return std::span(text_).last(count);
  }

 private:
  uint32_t clear_, size_ = 0;
  std::array<uint16_t, kSizeMax> prefix_{};
  std::array<uint8_t, kSizeMax> last_{}, text_;
};

void decode_lzw(GifReader& reader, std::span<uint8_t> indices) {
  const int literal_bits = reader.u8();
  if (literal_bits < 1 || literal_bits > 11) throw_corrupt("GIF", "an impossible LZW code size");
  const auto owner = std::make_unique<Dictionary>(literal_bits);
  Dictionary& dictionary = *owner;
  CodeReader codes(reader);
  constexpr uint32_t kNone = ~0u;
  uint32_t previous = kNone;
  int width = literal_bits + 1;
  for (size_t done = 0; done < indices.size();) {
    const uint32_t code = codes.next(width);
    if (code == dictionary.clear_code()) {
      dictionary.reset();
      width = literal_bits + 1;
      previous = kNone;
      continue;
    }
    if (code == dictionary.end_code()) throw_truncated("GIF");
    // A code not yet in the dictionary can only be the one about to be added: the previous text and its own
    // head.
    const bool repeats_head = code == dictionary.size() && previous != kNone;
    if (code >= dictionary.size() && !repeats_head) throw_corrupt("GIF", "an impossible LZW code");
    std::span<const uint8_t> text = dictionary.expand(repeats_head ? previous : code);
    if (previous != kNone) dictionary.add(previous, text.front());
    if (repeats_head) text = dictionary.expand(dictionary.size() > code ? code : previous);
    if (dictionary.size() >= (1u << width) && width < 12) ++width;
    previous = code;
    const size_t kept = std::min(text.size(), indices.size() - done);
    std::copy_n(text.begin(), kept, indices.begin() + static_cast<int64_t>(done));
    done += kept;
  }
}

// Interlaced frames store every 8th row, then the rows between, in four passes.
int64_t stored_row(int64_t row, int64_t height) {
  constexpr int64_t kFirst[] = {0, 4, 2, 1}, kStep[] = {8, 8, 4, 2};
  for (int pass = 0; pass < 4; ++pass) {
    const int64_t rows = (height - kFirst[pass] + kStep[pass] - 1) / kStep[pass];
    if (row < rows) return kFirst[pass] + row * kStep[pass];
    row -= std::max<int64_t>(rows, 0);
  }
  return height - 1;
}

}  // namespace

Decoded decode_gif(Bytes bytes, const MediaOptions& options) {
  GifReader reader{bytes};
  const GifFrame frame = read_until_first_frame(reader);
  check_header(frame.screen, options);
  std::array<uint8_t, 768> colours;
  for (size_t i = 0; i < colours.size(); ++i)
    colours[i] = static_cast<uint8_t>(frame.palette.empty() ? i / 3 : 0);
  std::copy(frame.palette.begin(), frame.palette.end(), colours.begin());
  if (frame.transparent) std::fill_n(colours.begin() + int64_t{frame.background} * 3, 3, uint8_t{255});
  Decoded decoded{Image(frame.screen), 0};
  Image& image = decoded.image;
  for (int64_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = colours[size_t{frame.background} * 3 + i % 3];
  if (frame.size.height == 0 || frame.size.width == 0) return decoded;
  Buffer<uint8_t> indices(frame.size.height * frame.size.width);
  decode_lzw(reader, indices.span());
  for (int64_t y = 0; y < frame.size.height; ++y) {
    const int64_t shown = frame.interlaced ? stored_row(y, frame.size.height) : y;
    uint8_t* out = image.row(frame.top + shown) + frame.left * 3;
    for (int64_t x = 0; x < frame.size.width; ++x) {
      std::copy_n(colours.data() + indices[y * frame.size.width + x] * 3, 3, out + x * 3);
    }
  }
  return decoded;
}

}  // namespace fovea
