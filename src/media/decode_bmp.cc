// BMP through FFmpeg's decoder, which knows the palettes, bit fields and run lengths; colours scaled as
// Pillow does.
#include <algorithm>
#include <cstring>

#include "media/decode.h"
#include "media/ffmpeg.h"

namespace fovea {
namespace {

uint32_t u16(Bytes bytes, size_t at) { return static_cast<uint32_t>(bytes[at] | bytes[at + 1] << 8); }
uint32_t u32(Bytes bytes, size_t at) { return u16(bytes, at) | u16(bytes, at + 2) << 16; }

struct BmpHeader {
  ImageSize size;
  bool has_alpha = false;
};

// FFmpeg decodes cut-off files "anyway", so what the header promises is compared with what is there.
BmpHeader read_header(Bytes bytes, const MediaOptions& options) {
  constexpr size_t kFileHeader = 14, kCoreHeader = 12, kInfoHeader = 40;
  if (bytes.size() < kFileHeader + 4) throw_truncated("BMP");
  const size_t pixels_at = u32(bytes, 10), info = u32(bytes, 14);
  if (info != kCoreHeader && info < kInfoHeader) throw_corrupt("BMP", "an unknown header");
  if (bytes.size() < kFileHeader + info) throw_truncated("BMP");
  const bool core = info == kCoreHeader;
  const int64_t width = core ? int64_t{u16(bytes, 18)} : static_cast<int32_t>(u32(bytes, 18));
  const int64_t height =
      core ? int64_t{u16(bytes, 20)} : static_cast<int32_t>(u32(bytes, 22));  // < 0: top down
  BmpHeader header{{std::abs(height), width}, false};
  check_header(header.size, options);
  const int64_t bits = u16(bytes, core ? 24 : 28);
  constexpr uint32_t kRaw = 0, kBitFields = 3;
  const uint32_t compression = core ? kRaw : u32(bytes, 30);
  if (compression == kRaw || compression == kBitFields) {
    const int64_t row_bytes = (width * bits + 31) / 32 * 4;
    if (static_cast<int64_t>(bytes.size()) - static_cast<int64_t>(pixels_at) <
        row_bytes * header.size.height) {
      throw_truncated("BMP");
    }
  }
  constexpr size_t kHeaderWithAlphaMask = 56, kAlphaMaskAt = 66;
  header.has_alpha = compression == kBitFields && bits == 32 && info >= kHeaderWithAlphaMask &&
                     u32(bytes, kAlphaMaskAt) != 0;
  return header;
}

FfmpegPtr<AVFrame> decode_frame(Bytes bytes) {
  silence_ffmpeg();
  const AVCodec* codec = avcodec_find_decoder(AV_CODEC_ID_BMP);
  if (!codec)
    throw Error(ErrorKind::unsupported, "this build of FFmpeg cannot read BMP", "convert it to PNG");
  FfmpegPtr<AVCodecContext> context(avcodec_alloc_context3(codec));
  FfmpegPtr<AVPacket> packet(av_packet_alloc());
  FfmpegPtr<AVFrame> frame(av_frame_alloc());
  if (!context || !packet || !frame || av_new_packet(packet.get(), static_cast<int>(bytes.size())) < 0) {
    throw Error(ErrorKind::exhausted, "no memory to decode a BMP", "free some memory");
  }
  std::memcpy(packet->data, bytes.data(), bytes.size());
  context->thread_count = 1;
  int code = avcodec_open2(context.get(), codec, nullptr);
  if (code >= 0) code = avcodec_send_packet(context.get(), packet.get());
  if (code >= 0) code = avcodec_receive_frame(context.get(), frame.get());
  if (code < 0) throw_corrupt("BMP", ffmpeg_error(code));
  return frame;
}

void palette_row(const AVFrame& frame, int64_t y, uint8_t* rgb) {
  for (int x = 0; x < frame.width; ++x) {
    uint32_t argb;
    std::memcpy(&argb, frame.data[1] + 4 * frame.data[0][y * frame.linesize[0] + x], sizeof argb);
    for (int c = 0; c < 3; ++c) rgb[x * 3 + c] = static_cast<uint8_t>(argb >> (16 - 8 * c));
  }
}

// Any packed format: components scaled from their depth to 8 bits, then on white where some are transparent.
class PackedRows {
 public:
  PackedRows(const AVFrame& frame, bool opaque)
      : frame_(frame),
        format_(av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format))),
        opaque_(opaque),
        line_(frame.width),
        rgba_(int64_t{frame.width} * 4) {
    if (!format_) throw_corrupt("BMP", "an unknown pixel format");
  }
  void convert(int64_t y, uint8_t* rgb) {
    std::fill_n(rgba_.data(), rgba_.size(), uint8_t{255});
    const uint8_t* planes[4] = {frame_.data[0], frame_.data[1], frame_.data[2], frame_.data[3]};
    const int components = format_->nb_components;
    for (int c = 0; c < (components < 3 ? 3 : components); ++c) {
      const int from = components < 3 ? 0 : c;
      av_read_image_line(line_.data(), planes, frame_.linesize, format_, 0, static_cast<int>(y), from,
                         frame_.width, 0);
      const int largest = (1 << format_->comp[from].depth) - 1;
      for (int x = 0; x < frame_.width; ++x)
        rgba_[x * 4 + c] = static_cast<uint8_t>(line_[x] * 255 / largest);
    }
    rgba_to_rgb(rgba_.data(), rgb, frame_.width, opaque_);
  }

 private:
  const AVFrame& frame_;
  const AVPixFmtDescriptor* format_;
  bool opaque_;
  Buffer<uint16_t> line_;
  Buffer<uint8_t> rgba_;
};

}  // namespace

Decoded decode_bmp(Bytes bytes, const MediaOptions& options) {
  const BmpHeader header = read_header(bytes, options);
  const auto frame = decode_frame(bytes);
  if (frame->width != header.size.width || frame->height != header.size.height) {
    throw_corrupt("BMP", "its size contradicts its header");
  }
  Decoded decoded{Image(header.size), 0};
  PackedRows packed(*frame, !header.has_alpha);
  for (int64_t y = 0; y < header.size.height; ++y) {
    if (frame->format == AV_PIX_FMT_PAL8)
      palette_row(*frame, y, decoded.image.row(y));
    else
      packed.convert(y, decoded.image.row(y));
  }
  return decoded;
}

}  // namespace fovea
