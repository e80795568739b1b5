#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "nn/layers.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// What a causal network keeps of the frames before the chunk that it works on: of every
/// convolution over time the last frames of its input. One history belongs to one video.
class CausalHistory {
 public:
  /// The chunk is the video's first, of a single frame, which what resamples time passes through.
  bool first_chunk() const { return first_chunk_; }
  void next_chunk() { first_chunk_ = false; }

  /// Of a layer, by its address: absent, or the last frames [1, n, h, w, C].
  Tensor& of(const void* layer) { return frames_[layer]; }

 private:
  bool first_chunk_ = true;
  std::map<const void*, Tensor> frames_;
};

/// A convolution whose frame i sees the input's frames up to stride_t * i: kt - stride_t frames of
/// history lie before a chunk, zeros before a video. A video's chunks, one after the other, give
/// what the whole video at once would.
class CausalConv3d {
 public:
  explicit CausalConv3d(const nn::WeightScope& scope, int stride_t = 1)
      : conv_(scope, stride_t), context_(conv_.weights().kernel_t() - stride_t) {}

  /// x [1, f, h, w, C_in] -> [1, f / stride_t, h, w, C_out], plus `residual` where given.
  Tensor operator()(const Tensor& x, CausalHistory& history, const Tensor& residual = {}) const;
  /// The same for x = activation(norm(input)), which goes to its place behind the history at once;
  /// an input that nobody else holds is gone when the convolution begins.
  Tensor operator()(Tensor input, const nn::ChannelNorm& norm, CausalHistory& history,
                    const Tensor& residual = {}) const;
  /// x will be in the history of the next chunk; nothing is computed.
  void remember(const Tensor& x, CausalHistory& history) const;

 private:
  /// A tensor of history and then f frames, which `write` fills in, with the room between pixels
  /// that ops::conv3d wants.
  Tensor joined(const Shape& x, const Tensor& like, CausalHistory& history,
                const std::function<void(const Tensor&)>& write) const;

  nn::Conv3d conv_;
  std::int64_t context_;  ///< frames of history
};

}  // namespace dither::models
