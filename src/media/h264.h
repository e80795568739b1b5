#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "media/i420.h"
#include "media/image.h"

namespace dither {

/// One coded picture: NAL units without parameter sets, each after its length as a big-endian u32
/// (ISO/IEC 14496-15, 5.3.4.2).
struct H264Picture {
  std::vector<std::byte> bytes;
  bool key_frame = false;  ///< IDR: decoding can begin here
};

/// The parameter sets that every picture refers to, NAL units without start codes.
struct H264ParameterSets {
  std::vector<std::vector<std::byte>> sequence;
  std::vector<std::vector<std::byte>> picture;
};

/// H.264 through OpenH264: progressive, 4:2:0, CABAC, no B pictures (decoding order is display
/// order), constant quantizer. Equal input gives equal bytes with the same version of OpenH264, on
/// any number of processors. docs/decisions/0011 says why this encoder.
class H264Encoder {
 public:
  struct Settings {
    int width = 0;  ///< even, at least 16
    int height = 0;
    double fps = 0;
    int qp = 0;                  ///< 0 to 51, lower is better
    int key_frame_interval = 1;  ///< pictures from one IDR to the next
  };
  /// Throws kInvalidArgument, naming the numbers, for what OpenH264 cannot do.
  explicit H264Encoder(const Settings& settings);
  ~H264Encoder();
  H264Encoder(const H264Encoder&) = delete;
  H264Encoder& operator=(const H264Encoder&) = delete;

  /// Throws kInternal when OpenH264 fails.
  H264Picture encode(const I420& picture);

  /// Those of the pictures so far: empty before the first.
  const H264ParameterSets& parameter_sets() const { return parameter_sets_; }

 private:
  struct Codec;
  std::unique_ptr<Codec> codec_;
  Settings settings_;
  std::int64_t pictures_ = 0;
  H264ParameterSets parameter_sets_;
};

/// Decodes what H264Encoder writes, and other progressive 4:2:0 streams of its features.
class H264Decoder {
 public:
  /// `name` is for messages. Throws kResourceExhausted, kInternal when OpenH264 does not start.
  H264Decoder(const H264ParameterSets& parameter_sets, std::string name);
  ~H264Decoder();
  H264Decoder(const H264Decoder&) = delete;
  H264Decoder& operator=(const H264Decoder&) = delete;

  /// Takes one sample, whose NAL units' lengths have 1, 2 or 4 bytes, and gives the next picture to
  /// show. OpenH264 looks a picture ahead, so the first sample gives none and flush() the last.
  /// Throws kDataLoss for bytes that are not a picture, kUnsupported for NAL units but slices and
  /// for odd sides.
  std::optional<Image> decode(std::span<const std::byte> sample, int length_bytes);

  /// After the last sample, until it gives nothing.
  std::optional<Image> flush();

 private:
  struct Codec;
  std::optional<Image> picture_of(const Codec& codec) const;

  std::unique_ptr<Codec> codec_;
  std::string name_;
  std::vector<std::byte> annex_b_;  ///< parameter sets, before the first picture
};

}  // namespace dither
