#include "models/vae/wan_resample.h"

#include <algorithm>
#include <array>

namespace dither::models {
namespace {

/// [1, f, h, w, C] as a batch of images, and back.
Tensor images_of(const Tensor& x) { return x.reshape({x.dim(1), x.dim(2), x.dim(3), x.dim(4)}); }
Tensor video_of(const Tensor& images) {
  return images.reshape({1, images.dim(0), images.dim(1), images.dim(2), images.dim(3)});
}

/// conv of every frame, plus `residual` [1, f, h', w', C'] where given.
Tensor each_frame(const nn::Conv2d& conv, const Tensor& images, const Tensor& residual) {
  return video_of(conv(images, residual.defined() ? images_of(residual) : residual));
}

/// [1, f, h, w, 2 C], the channels of an even and an odd frame -> [1, 2 f, h, w, C].
Tensor interleave_frames(const Tensor& x) {
  const std::int64_t channels = x.dim(4) / 2;
  return ops::contiguous(x.unflatten(-1, 2, channels).permute({0, 1, 4, 2, 3, 5}))
      .reshape({1, 2 * x.dim(1), x.dim(2), x.dim(3), channels});
}

}  // namespace

WanUpsampler::WanUpsampler(const nn::WeightScope& scope)
    : conv_(nn::Conv2d::upsampled(scope / "resample" / 1, 3)) {
  if (scope.has("time_conv.weight")) time_conv_.emplace(scope / "time_conv");
}

Tensor WanUpsampler::operator()(Tensor x, CausalHistory& history, const Tensor& residual) const {
  if (time_conv_ && !history.first_chunk()) x = interleave_frames((*time_conv_)(x, history));
  return each_frame(conv_, images_of(x), residual);
}

WanDownsampler::WanDownsampler(const nn::WeightScope& scope)
    : conv_(scope / "resample" / 1, 2, std::array{0, 0, 1, 1}) {
  if (scope.has("time_conv.weight")) time_conv_.emplace(scope / "time_conv", 2);
}

Tensor WanDownsampler::operator()(const Tensor& x, CausalHistory& history,
                                  const Tensor& residual) const {
  if (!time_conv_) return each_frame(conv_, images_of(x), residual);
  const Tensor frames = each_frame(conv_, images_of(x), {});
  if (!history.first_chunk()) return (*time_conv_)(frames, history, residual);
  time_conv_->remember(frames, history);
  return residual.defined() ? ops::add(frames, residual) : frames;
}

Tensor spread_channels(const Tensor& x, std::int64_t channels, std::int64_t time_factor,
                       bool first_chunk) {
  const std::int64_t frames = x.dim(1);
  const std::int64_t h = x.dim(2);
  const std::int64_t w = x.dim(3);
  const std::int64_t places = time_factor * 4;
  const std::int64_t repeats = channels * places / x.dim(4);
  // Either several places of an output channel come from several input channels, or several output
  // channels from the same one.
  const std::int64_t sources = std::max<std::int64_t>(places / repeats, 1);
  const std::int64_t copies = std::max<std::int64_t>(repeats / places, 1);
  const std::int64_t groups = channels / copies;
  const std::int64_t first = first_chunk ? time_factor - 1 : 0;
  const std::int64_t times = time_factor - first;
  const Tensor y = ops::empty_like(x, {frames, times, h, 2, w, 2, groups, copies});
  const Tensor from = x.reshape({frames, 1, h, 1, w, 1, groups, sources});
  for (std::int64_t place = first * 4; place < places; ++place) {
    const std::int64_t source = place * sources / places;
    const std::int64_t t = place / 4 - first;
    const std::int64_t row = place / 2 % 2;
    const std::int64_t column = place % 2;
    const Tensor to = y.slice(1, t, t + 1).slice(3, row, row + 1).slice(5, column, column + 1);
    for (std::int64_t i = 0; i < copies; ++i) {
      ops::copy(from.slice(-1, source, source + 1), to.slice(-1, i, i + 1));
    }
  }
  return y.reshape({1, frames * times, 2 * h, 2 * w, channels});
}

Tensor mean_channels(const Tensor& x, std::int64_t channels, std::int64_t time_factor,
                     std::int64_t space_factor, bool first_chunk) {
  Tensor frames = x;
  if (first_chunk && time_factor == 2) frames = ops::concat({ops::affine(x, 0, 0), x}, 1);
  const std::int64_t f = frames.dim(1) / time_factor;
  const std::int64_t h = x.dim(2) / space_factor;
  const std::int64_t w = x.dim(3) / space_factor;
  const std::int64_t members = x.dim(4) * time_factor * space_factor * space_factor / channels;
  const Tensor split = frames.reshape({f, time_factor, h, space_factor, w, space_factor, x.dim(4)});
  const Tensor parts = ops::contiguous(split.permute({0, 2, 4, 6, 1, 3, 5}))
                           .reshape({1, f, h, w, channels, members});
  const auto part = [&](std::int64_t i) {
    return ops::contiguous(parts.slice(-1, i, i + 1)).reshape({1, f, h, w, channels});
  };
  // Summed in float32, rounded once.
  Tensor sum = ops::cast(part(0), DType::kF32);
  for (std::int64_t i = 1; i < members; ++i) {
    sum = ops::add(sum, ops::cast(part(i), DType::kF32));
  }
  return ops::cast(ops::affine(sum, 1.0F / static_cast<float>(members), 0), x.dtype());
}

Tensor patchify(const Tensor& frames, std::int64_t patch_size) {
  if (patch_size == 1) return frames;
  const std::int64_t f = frames.dim(1);
  const std::int64_t h = frames.dim(2) / patch_size;
  const std::int64_t w = frames.dim(3) / patch_size;
  const std::int64_t colors = frames.dim(4);
  const Tensor split = frames.reshape({f, h, patch_size, w, patch_size, colors});
  return ops::contiguous(split.permute({0, 1, 3, 5, 4, 2}))
      .reshape({1, f, h, w, colors * patch_size * patch_size});
}

Tensor unpatchify(const Tensor& x, std::int64_t patch_size) {
  if (patch_size == 1) return x;
  const std::int64_t f = x.dim(1);
  const std::int64_t h = x.dim(2);
  const std::int64_t w = x.dim(3);
  const std::int64_t colors = x.dim(4) / (patch_size * patch_size);
  const Tensor split = x.reshape({f, h, w, colors, patch_size, patch_size});
  return ops::contiguous(split.permute({0, 1, 5, 2, 4, 3}))
      .reshape({1, f, h * patch_size, w * patch_size, colors});
}

}  // namespace dither::models
