#include "models/vae/wan_memory.h"

#include <algorithm>

#include "models/vae/wan_autoencoder.h"

namespace dither::models {
namespace {

constexpr std::int64_t kContext = 2;  // frames before a chunk that a convolution over three sees

/// Walks through decoder or encoder; frames and pixels are those of the chunk at this place.
class Walk {
 public:
  Walk(std::int64_t frames, std::int64_t pixels,
       const std::function<std::int64_t(std::int64_t)>& row_channels)
      : row_channels_(row_channels), pixels_(pixels), frames_(frames) {}

  /// A convolution over time. `held`: channels of what its input was made from.
  void convolution(std::int64_t in, std::int64_t out, std::int64_t held = 0) {
    elements_.history += kContext * pixels_ * in;
    working(frames_ * held + padded(in) + frames_ * out);
  }

  /// Input, shortcut and first padded input; then shortcut, second padded input and result.
  void resnet(std::int64_t in, std::int64_t out) {
    convolution(in, out);
    convolution(out, out);
    const std::int64_t shortcut = in == out ? 0 : frames_ * out;
    working(frames_ * in + shortcut + padded(in));
    working(frames_ * out + padded(in) + frames_ * out);
    working(frames_ * out + padded(out) + frames_ * out);
  }

  /// `shortcut`: there is one around the block, from as many channels.
  void upsample(std::int64_t channels, std::int64_t out, bool doubles, std::int64_t shortcut) {
    const std::int64_t times = doubles ? 2 : 1;
    const std::int64_t spread = shortcut == 0 ? 0 : 4 * times * frames_ * out;
    if (shortcut != 0) working(frames_ * (channels + shortcut) + spread);
    if (doubles) {
      elements_.history += kContext * pixels_ * channels;
      working(spread + (4 * frames_ + kContext) * channels);  // padded, and the convolution's
      working(spread + 5 * frames_ * channels);               // as that puts frames out, in order
      frames_ *= 2;
    }
    // The input, it enlarged, and the result; or the input and the result, twice: no more, as
    // there are never more channels out than in.
    working(spread + frames_ * (5 * channels + 4 * out));
    pixels_ *= 4;
  }

  /// Input and result, and where time is halved the frames between both convolutions: less than any
  /// resnet before it takes.
  void downsample(std::int64_t channels, bool halves) {
    pixels_ /= 4;
    if (!halves) return;
    elements_.history += pixels_ * channels;  // one frame, since the stride is two
    frames_ = std::max<std::int64_t>(frames_ / 2, 1);
  }

  /// Kept beside all that works from here on: a tensor of so many times fewer frames and pixels.
  void hold(std::int64_t channels, std::int64_t fewer = 1) {
    held_ = frames_ * pixels_ * channels / fewer;
  }

  const WanVaeElements& elements() const { return elements_; }

 private:
  /// A convolution's input: history and frames, with room between the pixels.
  std::int64_t padded(std::int64_t channels) const {
    // Zeros that become history in front of a single frame; other chunks are larger.
    const std::int64_t zeros = frames_ == 1 ? channels : 0;
    return (frames_ + kContext) * row_channels_(channels) + zeros;
  }

  void working(std::int64_t channels) {
    elements_.working = std::max(elements_.working, held_ + pixels_ * channels);
  }

  const std::function<std::int64_t(std::int64_t)>& row_channels_;
  std::int64_t pixels_;
  std::int64_t frames_;
  std::int64_t held_ = 0;
  WanVaeElements elements_;
};

}  // namespace

WanVaeElements wan_decoder_elements(const WanVaeConfig& config, std::int64_t pixels,
                                    const std::function<std::int64_t(std::int64_t)>& row_channels) {
  Walk walk(kWanChunkFrames, pixels, row_channels);
  std::int64_t channels = config.decoder_channels(0);
  walk.convolution(config.z_dim, channels);
  for (int i = 0; i < 2; ++i) walk.resnet(channels, channels);
  for (std::size_t block = 0; block < config.levels(); ++block) {
    const bool last = block + 1 == config.levels();
    const std::int64_t in = channels;
    const std::int64_t out = config.decoder_channels(block);
    if (config.is_residual && !last) walk.hold(in);
    for (std::int64_t j = 0; j <= config.num_res_blocks; ++j) walk.resnet(j == 0 ? in : out, out);
    walk.hold(0);
    channels = out;
    if (last) continue;
    if (!config.is_residual) channels /= 2;
    walk.upsample(out, channels, config.upsamples_time(block), config.is_residual ? in : 0);
  }
  walk.convolution(channels, config.out_channels);
  return walk.elements();
}

/// The means that go around a residual block take no more than the block's layers.
WanVaeElements wan_encoder_elements(const WanVaeConfig& config, std::int64_t pixels,
                                    std::int64_t frames,
                                    const std::function<std::int64_t(std::int64_t)>& row_channels) {
  const auto halvings = static_cast<int>(config.levels()) - 1;
  Walk walk(std::min(frames, kWanChunkFrames * config.scale_factor_temporal),
            pixels << (2 * halvings), row_channels);
  walk.convolution(config.in_channels, config.base_dim,
                   config.patch_size > 1 ? config.in_channels : 0);
  std::int64_t channels = config.base_dim;
  for (std::size_t level = 0; level < config.levels(); ++level) {
    const bool last = level + 1 == config.levels();
    const bool halves = !last && config.downsamples_time(level) && frames > 1;
    const std::int64_t in = channels;
    channels = config.encoder_channels(level);
    if (config.is_residual) walk.hold(channels, last ? 1 : halves ? 8 : 4);
    for (std::int64_t j = 0; j < config.num_res_blocks; ++j) {
      walk.resnet(j == 0 ? in : channels, channels);
    }
    walk.hold(0);
    if (!last) walk.downsample(channels, config.downsamples_time(level));
  }
  for (int i = 0; i < 2; ++i) walk.resnet(channels, channels);
  walk.convolution(channels, 2 * config.z_dim);
  return walk.elements();
}

std::int64_t wan_tile_elements(const WanVaeConfig& config, std::int64_t frames, std::int64_t height,
                               std::int64_t width) {
  constexpr std::int64_t kJoining = 14;  // seven in float32, in elements of half its size
  const auto [size, stride] = config.tiles();
  const std::int64_t scale = config.scale_factor_spatial;
  const std::int64_t tile_height = std::min(height, size) * scale;
  const std::int64_t tile_width = std::min(width, size) * scale;
  const std::int64_t overlap = (size - stride) * scale;
  const std::int64_t tiles_in_row = (width + stride - 1) / stride;
  const std::int64_t pixels = 2 * tile_height * tile_width +
                              2 * tiles_in_row * overlap * tile_width + overlap * tile_height +
                              kJoining * overlap * std::max(tile_height, tile_width);
  const std::int64_t count = (frames - 1) * config.scale_factor_temporal + 1;
  return count * config.image_channels() * pixels;
}

}  // namespace dither::models
