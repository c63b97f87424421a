#include "media/video.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/parallel.h"
#include "media/decode.h"
#include "media/ffmpeg.h"
#include "media/orientation.h"
#include "media/source.h"
extern "C" {
#include <libavutil/display.h>
}

namespace fovea {
namespace {

// Containers and raw streams that hold their own frames. Playlists (hls, dash, concat, image2) would open
// other files.
constexpr const char* kFormats =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,gif,apng,h264,hevc,ivf,"
    "mjpeg,m4v";

[[noreturn]] void throw_unreadable(const std::string& detail) {
  throw Error(ErrorKind::corrupt, "the video cannot be read: " + detail,
              "check that the file plays, or convert it: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4");
}

int checked(int code) {
  if (code < 0) throw_unreadable(ffmpeg_error(code));
  return code;
}

template <typename T>
T* checked(T* pointer) {
  if (!pointer) throw Error(ErrorKind::exhausted, "no memory to decode a video", "free some memory");
  return pointer;
}

// A data: URL's bytes as an FFmpeg input.
struct MemoryFile {
  Buffer<uint8_t> bytes;
  int64_t at = 0;

  static int read(void* opaque, uint8_t* out, int count) {
    MemoryFile& file = *static_cast<MemoryFile*>(opaque);
    const int64_t available = std::min<int64_t>(count, file.bytes.size() - file.at);
    if (available <= 0) return AVERROR_EOF;
    std::memcpy(out, file.bytes.data() + file.at, static_cast<size_t>(available));
    file.at += available;
    return static_cast<int>(available);
  }
  static int64_t seek(void* opaque, int64_t offset, int whence) {
    MemoryFile& file = *static_cast<MemoryFile*>(opaque);
    if (whence & AVSEEK_SIZE) return file.bytes.size();
    const int64_t base = whence == SEEK_CUR ? file.at : whence == SEEK_END ? file.bytes.size() : 0;
    if (base + offset < 0 || base + offset > file.bytes.size()) return AVERROR(EINVAL);
    return file.at = base + offset;
  }
};

const int32_t* display_matrix(const AVStream& stream) {
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)  // FFmpeg 6.1
  const AVPacketSideData* data = av_packet_side_data_get(
      stream.codecpar->coded_side_data, stream.codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  return data && data->size >= 36 ? reinterpret_cast<const int32_t*>(data->data) : nullptr;
#else
  return reinterpret_cast<const int32_t*>(
      av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr));
#endif
}

// Packets the container's index lists; a file cut off between two packets ends before it has given them all.
int64_t indexed_packets(const AVStream& stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 59  // FFmpeg 5
  return avformat_index_get_entries_count(&stream);
#else
  static_cast<void>(stream);
  return 0;  // FFmpeg 4 keeps the number to itself
#endif
}

// The EXIF orientation that equals the stream's rotation by a multiple of 90 degrees; other matrices are
// ignored.
int orientation_of(const AVStream& stream) {
  const int32_t* matrix = display_matrix(stream);
  if (!matrix) return 1;
  const double clockwise = -av_display_rotation_get(matrix);
  if (!std::isfinite(clockwise)) return 1;
  const int64_t quarters = (std::llround(clockwise / 90) % 4 + 4) % 4;
  constexpr int kOrientation[] = {1, 6, 3, 8};
  return std::abs(std::remainder(clockwise, 90)) < 1 ? kOrientation[quarters] : 1;
}

// Converts frames to RGB at their own size, with the colour matrix and range they declare.
class RgbConverter {
 public:
  explicit RgbConverter(const MediaOptions& options) : options_(options), rgb_(checked(av_frame_alloc())) {}

  Image convert(const AVFrame& frame) {
    const ImageSize size{frame.height, frame.width};
    check_header(size, options_);
    prepare(frame);
    checked(
        sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, rgb_->data, rgb_->linesize));
    Image image(size);
    for (int64_t y = 0; y < size.height; ++y) {
      std::copy_n(rgb_->data[0] + y * rgb_->linesize[0], size.width * 3, image.row(y));
    }
    return image;
  }

 private:
  void prepare(const AVFrame& frame) {
    const auto format = static_cast<AVPixelFormat>(frame.format);
    scaler_.reset(sws_getCachedContext(scaler_.release(), frame.width, frame.height, format, frame.width,
                                       frame.height, AV_PIX_FMT_RGB24, SWS_BILINEAR, nullptr, nullptr,
                                       nullptr));
    if (!scaler_) throw_unreadable("its pixel format cannot be converted to RGB");
    const int* matrix = sws_getCoefficients(frame.colorspace);
    sws_setColorspaceDetails(scaler_.get(), matrix, frame.color_range == AVCOL_RANGE_JPEG,
                             sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    if (rgb_->width == frame.width && rgb_->height == frame.height) return;
    // Not straight into an Image: the scaler may write past the end of a row up to its alignment.
    rgb_.reset(checked(av_frame_alloc()));
    rgb_->width = frame.width;
    rgb_->height = frame.height;
    rgb_->format = AV_PIX_FMT_RGB24;
    checked(av_frame_get_buffer(rgb_.get(), 0));
  }

  const MediaOptions& options_;
  FfmpegPtr<SwsContext> scaler_;
  FfmpegPtr<AVFrame> rgb_;
};

}  // namespace

struct VideoReader::State {
  MemoryFile memory;
  AVIOContext* memory_io = nullptr;
  AVFormatContext* format = nullptr;
  AVStream* stream = nullptr;
  const AVCodec* codec = nullptr;
  FfmpegPtr<AVPacket> packet;
  std::string source;
  MediaOptions options;

  ~State() { close(); }
  void close() {
    avformat_close_input(&format);
    if (memory_io) av_freep(&memory_io->buffer);
    avio_context_free(&memory_io);
  }

  void open_memory() {
    if (memory.bytes.size() == 0) memory.bytes = decode_data_url(source);
    memory.at = 0;
    constexpr int kBufferBytes = 1 << 16;
    auto* buffer = checked(static_cast<unsigned char*>(av_malloc(kBufferBytes)));
    memory_io =
        avio_alloc_context(buffer, kBufferBytes, 0, &memory, MemoryFile::read, nullptr, MemoryFile::seek);
    if (!memory_io) av_free(buffer);
    format->pb = checked(memory_io);
  }

  // Also the way back to the first packet: unlike seeking, it works for every format.
  void open() {
    close();
    format = checked(avformat_alloc_context());
    std::string url;
    if (is_data_url(source))
      open_memory();
    else
      url = "file:" + local_path(source);
    AVDictionary* settings = nullptr;
    av_dict_set(&settings, "protocol_whitelist", "file", 0);
    av_dict_set(&settings, "format_whitelist", kFormats, 0);
    const int code = avformat_open_input(&format, url.c_str(), nullptr, &settings);
    av_dict_free(&settings);
    checked(code);
    checked(avformat_find_stream_info(format, nullptr));
    const int index = av_find_best_stream(format, AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
    if (index == AVERROR_STREAM_NOT_FOUND) {
      throw Error(ErrorKind::invalid_argument, "the file has no video stream",
                  "give a video, or a picture as --image");
    }
    checked(index);
    stream = format->streams[index];
    codec = avcodec_find_decoder(stream->codecpar->codec_id);
    if (!codec) {
      throw Error(
          ErrorKind::unsupported,
          fmt::format("this build of FFmpeg cannot decode {}", avcodec_get_name(stream->codecpar->codec_id)),
          "convert the video: ffmpeg -i INPUT -c:v libx264 OUTPUT.mp4");
    }
    if (stream->disposition & AV_DISPOSITION_ATTACHED_PIC) {
      throw Error(ErrorKind::invalid_argument, "the file is audio with a cover picture", "give a video");
    }
    for (unsigned i = 0; i < format->nb_streams; ++i) {
      if (format->streams[i] != stream) format->streams[i]->discard = AVDISCARD_ALL;
    }
  }

  // The next packet of the video stream; false at the end of the file. A packet cut short, or a read error,
  // is not an end but a damaged file.
  bool next_packet() {
    while (true) {
      av_packet_unref(packet.get());
      const int code = av_read_frame(format, packet.get());
      if (code == AVERROR_EOF) return false;
      checked(code);
      if (packet->stream_index != stream->index) continue;
      if (packet->flags & AV_PKT_FLAG_CORRUPT) throw_unreadable("it is truncated or damaged");
      return true;
    }
  }

  FfmpegPtr<AVCodecContext> open_decoder() const {
    FfmpegPtr<AVCodecContext> context(checked(avcodec_alloc_context3(codec)));
    checked(avcodec_parameters_to_context(context.get(), stream->codecpar));
    context->pkt_timebase = stream->time_base;
    context->thread_count = std::min(threads(), 16);
    context->max_pixels = options.pixels_decoded_max;
    checked(avcodec_open2(context.get(), codec, nullptr));
    return context;
  }
};

VideoReader::VideoReader(const std::string& source, const MediaOptions& options) : state_(new State) {
  silence_ffmpeg();
  state_->source = source;
  state_->options = options;
  state_->packet.reset(checked(av_packet_alloc()));
  state_->open();
}

VideoReader::~VideoReader() = default;

double VideoReader::fps() const {
  const AVRational guess = av_guess_frame_rate(state_->format, state_->stream, nullptr);
  const AVRational rate = state_->stream->avg_frame_rate.num > 0 ? state_->stream->avg_frame_rate : guess;
  if (rate.num <= 0 || rate.den <= 0) throw_unreadable("it does not tell its frame rate");
  return av_q2d(rate);
}

int64_t VideoReader::count_frames() {
  int64_t packets = 0, shown = 0;
  while (state_->next_packet()) {
    ++packets;
    shown += (state_->packet->flags & AV_PKT_FLAG_DISCARD) == 0;
  }
  if (packets < indexed_packets(*state_->stream)) throw_unreadable("it is truncated");
  if (shown == 0) throw_unreadable("it has no frames");
  return shown;
}

int64_t VideoReader::read(const std::vector<int64_t>& indices,
                          const std::function<void(int64_t, const Image&)>& take) {
  State& state = *state_;
  state.open();
  const auto decoder = state.open_decoder();
  const FfmpegPtr<AVFrame> frame(checked(av_frame_alloc()));
  RgbConverter converter(state.options);
  const int orientation = orientation_of(*state.stream);
  int64_t decoded = 0;
  size_t next = 0;
  for (bool more = true; more && next < indices.size();) {
    more = state.next_packet();
    const int sent = avcodec_send_packet(decoder.get(), more ? state.packet.get() : nullptr);
    // Recordings cut out of a broadcast begin with packets that refer to frames before the cut.
    if (sent < 0 && decoded > 0) checked(sent);
    int code = 0;
    while (next < indices.size() && (code = avcodec_receive_frame(decoder.get(), frame.get())) >= 0) {
      for (; next < indices.size() && indices[next] == decoded; ++next) {
        take(static_cast<int64_t>(next), upright(converter.convert(*frame), orientation));
      }
      ++decoded;
    }
    if (code < 0 && code != AVERROR(EAGAIN) && code != AVERROR_EOF && decoded > 0) checked(code);
  }
  return decoded;
}

}  // namespace fovea
