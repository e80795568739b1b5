#include <fmt/format.h>
#include <wels/codec_api.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "media/h264.h"

namespace dither {
namespace {

constexpr int kSequenceParameterSet = 7;  // nal_unit_type, ITU-T H.264, table 7-1
constexpr int kPictureParameterSet = 8;

using Bytes = std::vector<std::byte>;

/// A NAL unit without the start code (00 00 01 or 00 00 00 01) that OpenH264 writes before it.
std::span<const std::byte> without_start_code(std::span<const std::byte> unit) {
  std::size_t zeros = 0;
  while (zeros < unit.size() && unit[zeros] == std::byte{0}) ++zeros;
  if (zeros < 2 || zeros + 1 >= unit.size() || unit[zeros] != std::byte{1}) {
    throw Error(ErrorCode::kInternal, "OpenH264 wrote a NAL unit without a start code");
  }
  return unit.subspan(zeros + 1);
}

void append_with_length(std::span<const std::byte> unit, Bytes& out) {
  const auto size = static_cast<std::uint32_t>(unit.size());
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>(size >> shift));
  out.insert(out.end(), unit.begin(), unit.end());
}

void remember(std::span<const std::byte> unit, std::vector<Bytes>& sets) {
  Bytes set(unit.begin(), unit.end());
  if (std::ranges::find(sets, set) == sets.end()) sets.push_back(std::move(set));
}

}  // namespace

struct H264Encoder::Codec {
  ISVCEncoder* encoder = nullptr;

  Codec() {
    if (WelsCreateSVCEncoder(&encoder) != 0 || encoder == nullptr) {
      throw Error(ErrorCode::kResourceExhausted, "OpenH264 cannot create an encoder");
    }
    int level = WELS_LOG_QUIET;  // it would write to stderr; its results say enough
    encoder->SetOption(ENCODER_OPTION_TRACE_LEVEL, &level);
  }
  ~Codec() {
    encoder->Uninitialize();
    WelsDestroySVCEncoder(encoder);
  }
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;
};

H264Encoder::H264Encoder(const Settings& settings)
    : codec_(std::make_unique<Codec>()), settings_(settings) {
  ISVCEncoder& encoder = *codec_->encoder;
  SEncParamExt parameters;
  encoder.GetDefaultParams(&parameters);
  parameters.iUsageType = CAMERA_VIDEO_REAL_TIME;
  parameters.iPicWidth = settings.width;
  parameters.iPicHeight = settings.height;
  parameters.fMaxFrameRate = static_cast<float>(settings.fps);
  parameters.iRCMode = RC_OFF_MODE;
  parameters.iMinQp = settings.qp;
  parameters.iMaxQp = settings.qp;
  parameters.uiIntraPeriod = static_cast<unsigned>(settings.key_frame_interval);
  parameters.iComplexityMode = HIGH_COMPLEXITY;
  parameters.eSpsPpsIdStrategy = CONSTANT_ID;  // one avcC serves all pictures
  parameters.iEntropyCodingModeFlag = 1;       // CABAC
  parameters.iMultipleThreadIdc = 1;           // slices, and so bytes, do not depend on processors
  // What trades fidelity for a call's bit rate or a camera's noise.
  parameters.bEnableFrameSkip = false;
  parameters.bEnableDenoise = false;
  parameters.bEnableBackgroundDetection = false;
  parameters.bEnableAdaptiveQuant = false;
  parameters.bEnableSceneChangeDetect = false;
  parameters.bEnableLongTermReference = false;
  SSpatialLayerConfig& layer = parameters.sSpatialLayers[0];
  layer.iVideoWidth = settings.width;
  layer.iVideoHeight = settings.height;
  layer.fFrameRate = static_cast<float>(settings.fps);
  layer.uiProfileIdc = PRO_HIGH;
  layer.iDLayerQp = settings.qp;
  layer.sSliceArgument.uiSliceMode = SM_SINGLE_SLICE;
  layer.bVideoSignalTypePresent = true;
  layer.uiVideoFormat = VF_UNDEF;
  layer.bFullRange = false;
  layer.bColorDescriptionPresent = true;
  layer.uiColorPrimaries = CP_BT709;
  layer.uiTransferCharacteristics = TRC_BT709;
  layer.uiColorMatrix = CM_BT709;
  if (const int status = encoder.InitializeExt(&parameters); status != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("OpenH264 cannot encode {} x {} at {} frames a second with QP {} "
                            "(error {}); it takes at most 9437184 pixels",
                            settings.width, settings.height, settings.fps, settings.qp, status));
  }
}

H264Encoder::~H264Encoder() = default;

H264Picture H264Encoder::encode(const I420& picture) {
  SSourcePicture source{};
  source.iColorFormat = videoFormatI420;
  source.iPicWidth = picture.width;
  source.iPicHeight = picture.height;
  source.iStride[0] = picture.width;
  source.iStride[1] = source.iStride[2] = picture.width / 2;
  // OpenH264 only reads them.
  source.pData[0] = const_cast<std::uint8_t*>(picture.y.data());
  source.pData[1] = const_cast<std::uint8_t*>(picture.cb.data());
  source.pData[2] = const_cast<std::uint8_t*>(picture.cr.data());
  source.uiTimeStamp =
      static_cast<long long>(static_cast<double>(pictures_) * 1000.0 / settings_.fps);
  SFrameBSInfo coded{};
  const int status = codec_->encoder->EncodeFrame(&source, &coded);
  const bool shown = coded.eFrameType == videoFrameTypeIDR || coded.eFrameType == videoFrameTypeI ||
                     coded.eFrameType == videoFrameTypeP;
  if (status != cmResultSuccess || !shown) {
    throw Error(ErrorCode::kInternal,
                fmt::format("OpenH264 failed on frame {}: result {}, frame type {}", pictures_,
                            status, static_cast<int>(coded.eFrameType)));
  }
  ++pictures_;
  H264Picture out;
  out.key_frame = coded.eFrameType == videoFrameTypeIDR;
  for (int l = 0; l < coded.iLayerNum; ++l) {
    const SLayerBSInfo& layer = coded.sLayerInfo[l];
    const auto* next = reinterpret_cast<const std::byte*>(layer.pBsBuf);
    for (int n = 0; n < layer.iNalCount; ++n) {
      const auto size = static_cast<std::size_t>(layer.pNalLengthInByte[n]);
      const auto unit = without_start_code({next, size});
      next += size;
      const int type = std::to_integer<int>(unit[0]) & 0x1F;
      if (type == kSequenceParameterSet) {
        remember(unit, parameter_sets_.sequence);
      } else if (type == kPictureParameterSet) {
        remember(unit, parameter_sets_.picture);
      } else {
        append_with_length(unit, out.bytes);
      }
    }
  }
  return out;
}

}  // namespace dither
