#pragma once

#include <cstdint>
#include <optional>

#include "models/vae/causal_conv.h"
#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// Twice as many pixels in each direction, nearest neighbours, then a 3 x 3 convolution; before it,
/// where the checkpoint has a time_conv, twice as many frames: that convolution makes the channels
/// of an even and an odd frame of each. A video's first frame is not doubled, and not seen by the
/// doubling of the others.
class WanUpsampler {
 public:
  explicit WanUpsampler(const nn::WeightScope& scope);

  /// [1, f, h, w, C] -> [1, f or 2 f, 2h, 2w, C'], plus `residual` where given. An x that nobody
  /// else holds is gone once its frames are doubled.
  Tensor operator()(Tensor x, CausalHistory& history, const Tensor& residual = {}) const;

 private:
  std::optional<CausalConv3d> time_conv_;
  nn::Conv2d conv_;
};

/// The reverse: a 3 x 3 convolution with stride 2 over an image with a zero row below and a zero
/// column to its right, then where the checkpoint has a time_conv one over three frames with stride
/// 2, which a video's first frame skips.
class WanDownsampler {
 public:
  explicit WanDownsampler(const nn::WeightScope& scope);

  /// [1, f, h, w, C] -> [1, f or f / 2, h / 2, w / 2, C], plus `residual` where given.
  Tensor operator()(const Tensor& x, CausalHistory& history, const Tensor& residual = {}) const;

 private:
  nn::Conv2d conv_;
  std::optional<CausalConv3d> time_conv_;
};

/// What a shortcut around an up block makes of its input: with C s / r channels for s = ft * 2 * 2
/// places (t, y, x), channel i of the input repeated r times is the r channels from r i on of
/// [C', s]; each output channel's places lie in time and space. A video's first frame gets only its
/// last place in time.  [1, f, h, w, C] -> [1, ft f, 2h, 2w, C'].
/// C' s is a multiple of C, and one of r and s divides the other.
Tensor spread_channels(const Tensor& x, std::int64_t channels, std::int64_t time_factor,
                       bool first_chunk);

/// And around a down block: the s = ft * fs * fs pixels (t, y, x) that become one are channels of
/// it, [C, s], of which output channel i is the mean of C s / C' from C s / C' i on. A video's
/// first frame has a zero frame before it. [1, f, h, w, C] -> [1, f / ft, h / fs, w / fs, C'].  C s
/// is a multiple of C'.
Tensor mean_channels(const Tensor& x, std::int64_t channels, std::int64_t time_factor,
                     std::int64_t space_factor, bool first_chunk);

/// Pixels of a patch as channels: channel (c p + x) p + y is color c of the pixel in column x and
/// row y.  [1, f, h p, w p, C] -> [1, f, h, w, C p p].
Tensor patchify(const Tensor& frames, std::int64_t patch_size);
/// The inverse.
Tensor unpatchify(const Tensor& x, std::int64_t patch_size);

}  // namespace dither::models
