#include <fmt/format.h>
#include <wels/codec_api.h>

#include <array>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "media/h264.h"

namespace dither {
namespace {

constexpr int kSlice = 1;  // nal_unit_type, ITU-T H.264, table 7-1
constexpr int kIdrSlice = 5;

void append_with_start_code(std::span<const std::byte> unit, std::vector<std::byte>& out) {
  constexpr std::array<std::byte, 4> kStartCode = {std::byte{0}, std::byte{0}, std::byte{0},
                                                   std::byte{1}};
  out.insert(out.end(), kStartCode.begin(), kStartCode.end());
  out.insert(out.end(), unit.begin(), unit.end());
}

}  // namespace

struct H264Decoder::Codec {
  ISVCDecoder* decoder = nullptr;
  std::array<unsigned char*, 3> planes = {};  ///< of the latest picture; OpenH264's memory
  SBufferInfo info = {};

  Codec() {
    if (WelsCreateDecoder(&decoder) != 0 || decoder == nullptr) {
      throw Error(ErrorCode::kResourceExhausted, "OpenH264 cannot create a decoder");
    }
    int level = WELS_LOG_QUIET;
    decoder->SetOption(DECODER_OPTION_TRACE_LEVEL, &level);
    SDecodingParam parameters{};
    parameters.uiTargetDqLayer = std::numeric_limits<unsigned char>::max();  // the highest
    parameters.eEcActiveIdc = ERROR_CON_DISABLE;  // a damaged picture is an error, not a guess
    parameters.sVideoProperty.eVideoBsType = VIDEO_BITSTREAM_AVC;
    if (decoder->Initialize(&parameters) != 0) {
      WelsDestroyDecoder(decoder);
      throw Error(ErrorCode::kInternal, "OpenH264 cannot initialise a decoder");
    }
  }
  ~Codec() {
    decoder->Uninitialize();
    WelsDestroyDecoder(decoder);
  }
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;
};

H264Decoder::H264Decoder(const H264ParameterSets& parameter_sets, std::string name)
    : codec_(std::make_unique<Codec>()), name_(std::move(name)) {
  for (const auto* sets : {&parameter_sets.sequence, &parameter_sets.picture}) {
    for (const auto& set : *sets) append_with_start_code(set, annex_b_);
  }
}

H264Decoder::~H264Decoder() = default;

std::optional<Image> H264Decoder::decode(std::span<const std::byte> sample, int length_bytes) {
  const auto prefix = static_cast<std::size_t>(length_bytes);
  while (!sample.empty()) {
    std::size_t size = 0;
    for (std::size_t i = 0; i < prefix && i < sample.size(); ++i) {
      size = size << 8 | std::to_integer<std::size_t>(sample[i]);
    }
    if (sample.size() < prefix || size == 0 || size > sample.size() - prefix) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: a NAL unit of {} bytes in a sample with {} left", name_, size,
                              sample.size()));
    }
    const auto unit = sample.subspan(prefix, size);
    // Others could change what parse_sps() has checked.
    if (const int type = std::to_integer<int>(unit[0]) & 0x1F;
        type != kSlice && type != kIdrSlice) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: a NAL unit of type {} in a sample; slices, {} and {}, are read",
                              name_, type, kSlice, kIdrSlice));
    }
    append_with_start_code(unit, annex_b_);
    sample = sample.subspan(prefix + size);
  }
  if (annex_b_.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: a picture of {} bytes", name_, annex_b_.size()));
  }
  codec_->planes = {};
  codec_->info = {};
  const DECODING_STATE state = codec_->decoder->DecodeFrameNoDelay(
      reinterpret_cast<const unsigned char*>(annex_b_.data()), static_cast<int>(annex_b_.size()),
      codec_->planes.data(), &codec_->info);
  annex_b_.clear();
  if (state != dsErrorFree) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: OpenH264 cannot decode a picture (state {})",
                                                  name_, static_cast<int>(state)));
  }
  return picture_of(*codec_);
}

std::optional<Image> H264Decoder::flush() {
  codec_->planes = {};
  codec_->info = {};
  codec_->decoder->FlushFrame(codec_->planes.data(), &codec_->info);
  return picture_of(*codec_);
}

std::optional<Image> H264Decoder::picture_of(const Codec& codec) const {
  if (codec.info.iBufferStatus != 1) return std::nullopt;
  const SSysMEMBuffer& buffer = codec.info.UsrData.sSystemBuffer;
  if (buffer.iFormat != videoFormatI420 || buffer.iWidth <= 0 || buffer.iHeight <= 0 ||
      buffer.iWidth % 2 != 0 || buffer.iHeight % 2 != 0) {
    throw Error(ErrorCode::kUnsupported, fmt::format("{}: pictures of {} x {}; even sides are read",
                                                     name_, buffer.iWidth, buffer.iHeight));
  }
  return to_rgb({.width = buffer.iWidth,
                 .height = buffer.iHeight,
                 .y = codec.planes[0],
                 .cb = codec.planes[1],
                 .cr = codec.planes[2],
                 .y_stride = buffer.iStride[0],
                 .chroma_stride = buffer.iStride[1]});
}

}  // namespace dither
