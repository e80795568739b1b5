#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "media/image.h"

namespace dither {

/// Of a canvas, which libwebp holds twice for an animation: 8192 x 8192.
inline constexpr std::int64_t kMaxWebpPixels = std::int64_t{1} << 26;

/// A WebP as RGB, upright: alpha dropped, of an animation the first frame. `name` is for messages.
/// Throws kDataLoss (malformed, truncated), kUnsupported (over kMaxWebpPixels), kResourceExhausted.
Image decode_webp(std::span<const std::byte> file, std::string_view name);

}  // namespace dither
