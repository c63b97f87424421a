// WebP through libwebp's animation decoder, the one Pillow uses: the first frame on its full canvas.
#include <webp/demux.h>

#include <cstring>
#include <memory>

#include "media/decode.h"
#include "media/orientation.h"

namespace fovea {
namespace {

struct Deleter {
  void operator()(WebPAnimDecoder* decoder) const { WebPAnimDecoderDelete(decoder); }
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

Bytes chunk(const WebPDemuxer* demuxer, const char* name, WebPChunkIterator& iterator) {
  if (!WebPDemuxGetChunk(demuxer, name, 1, &iterator)) return {};
  return {iterator.chunk.bytes, iterator.chunk.size};
}

int webp_orientation(const WebPDemuxer* demuxer) {
  int orientation = 0;
  for (const char* name : {"EXIF", "XMP "}) {
    WebPChunkIterator iterator;
    std::memset(&iterator, 0, sizeof iterator);
    const Bytes bytes = chunk(demuxer, name, iterator);
    if (orientation == 0) orientation = *name == 'E' ? exif_orientation(bytes) : xmp_orientation(bytes);
    WebPDemuxReleaseChunkIterator(&iterator);
  }
  return orientation;
}

}  // namespace

Decoded decode_webp(Bytes bytes, const MediaOptions& options) {
  const WebPData data{bytes.data(), bytes.size()};
  WebPDemuxState parsed = WEBP_DEMUX_PARSE_ERROR;
  const std::unique_ptr<WebPDemuxer, Deleter> demuxer(WebPDemuxPartial(&data, &parsed));
  if (!demuxer || parsed == WEBP_DEMUX_PARSE_ERROR) throw_corrupt("WebP", "its chunks cannot be read");
  if (parsed != WEBP_DEMUX_DONE) throw_truncated("WebP");
  const ImageSize size{WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT),
                       WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH)};
  check_header(size, options);

  WebPAnimDecoderOptions settings;
  if (!WebPAnimDecoderOptionsInit(&settings))
    throw_corrupt("WebP", "libwebp is of another version than its header");
  settings.color_mode = MODE_RGBA;
  settings.use_threads = 1;
  const std::unique_ptr<WebPAnimDecoder, Deleter> decoder(WebPAnimDecoderNew(&data, &settings));
  if (!decoder) throw_corrupt("WebP", "its frames cannot be read");
  uint8_t* canvas = nullptr;  // owned by the decoder
  int timestamp_ms = 0;
  if (!WebPAnimDecoderGetNext(decoder.get(), &canvas, &timestamp_ms))
    throw_corrupt("WebP", "its first frame");

  const bool has_alpha = WebPDemuxGetI(demuxer.get(), WEBP_FF_FORMAT_FLAGS) & ALPHA_FLAG;
  Decoded decoded{Image(size), webp_orientation(demuxer.get())};
  for (int64_t y = 0; y < size.height; ++y) {
    rgba_to_rgb(canvas + y * size.width * 4, decoded.image.row(y), size.width, !has_alpha);
  }
  return decoded;
}

}  // namespace fovea
