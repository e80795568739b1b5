#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "media/video.h"

// A few bytes can say many large frames, which take long and find nothing.
constexpr int kMostPixels = 1 << 16;
constexpr int kMostFrames = 8;

/// Any bytes: frames or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto video = dither::open_video(std::as_bytes(std::span(data, size)), "input");
    if (video->info().width * video->info().height > kMostPixels) return 0;
    for (int i = 0; i < kMostFrames && video->next(); ++i) {
    }
  } catch (const dither::Error&) {
  }
  return 0;
}
