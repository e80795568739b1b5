#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace dither {

/// What a sequence parameter set says of a picture's size.
struct H264Size {
  int width = 0;
  int height = 0;
};

/// Parses a sequence parameter set, a NAL unit without start code (ITU-T H.264, 7.3.2.1.1), as far
/// as the size: before a decoder takes memory for it. `name` is for messages. Throws kDataLoss
/// (truncated), kUnsupported for anything but progressive 8-bit 4:2:0 of the baseline, main or high
/// profile without scaling matrices, naming it.
H264Size parse_sps(std::span<const std::byte> unit, std::string_view name);

}  // namespace dither
