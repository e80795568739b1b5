#pragma once

#include <array>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string_view>

#include "nn/weight_scope.h"
#include "ops/ops.h"

namespace dither::nn {

/// y = x W^T + b.  [..., K] -> [..., N].
class Linear {
 public:
  /// Binds "weight" and, where stored, "bias".
  explicit Linear(const WeightScope& scope) : Linear({scope}) {}
  /// Several layers that read the same input, executed as one product: their outputs lie side by
  /// side in the given order. All are quantized in one format or none is: throws kDataLoss.
  Linear(std::initializer_list<WeightScope> scopes);

  Tensor operator()(const Tensor& x, const ops::LinearEpilogue& epilogue = {}) const {
    return ops::linear(x, *weights_, epilogue);
  }
  Tensor operator()(const Tensor& x, ops::Activation activation) const {
    return ops::linear(x, *weights_, {.activation = activation});
  }
  /// The result as a residual stream, with the norm that its next reader wants.
  ops::NormedStream operator()(const Tensor& x, const ops::LinearEpilogue& epilogue,
                               const ops::ModulatedNorm& norm) const {
    return ops::linear_norm(x, *weights_, epilogue, norm);
  }
  const ops::PreparedLinear& weights() const { return *weights_; }
  /// The scale of the E4M3 codes that this layer takes as its input, where it takes codes: what
  /// makes its input can make them at once (ops::Output). Absent while a probe watches, which wants
  /// to see activations.
  std::optional<float> codes() const;

 private:
  ops::Backend* backend_;
  std::unique_ptr<ops::PreparedLinear> weights_;
};

/// LayerNorm with weight and bias.
class LayerNorm {
 public:
  LayerNorm(const WeightScope& scope, float eps)
      : weight_(scope.upload("weight")), bias_(scope.upload("bias")), eps_(eps) {}
  Tensor operator()(const Tensor& x) const { return ops::layer_norm(x, weight_, bias_, eps_); }

 private:
  Tensor weight_;
  Tensor bias_;
  float eps_;
};

/// RMSNorm with weight.
class RmsNorm {
 public:
  RmsNorm(const WeightScope& scope, float eps) : weight_(scope.upload("weight")), eps_(eps) {}
  Tensor operator()(const Tensor& x) const { return ops::rms_norm(x, weight_, eps_); }

 private:
  Tensor weight_;
  float eps_;
};

/// GroupNorm over NHWC images, followed by an activation.
class GroupNorm {
 public:
  GroupNorm(const WeightScope& scope, int groups, float eps,
            ops::Activation activation = ops::Activation::kNone)
      : weight_(scope.upload("weight")),
        bias_(scope.upload("bias")),
        groups_(groups),
        eps_(eps),
        activation_(activation) {}
  Tensor operator()(const Tensor& x) const {
    return ops::group_norm(x, groups_, weight_, bias_, eps_, activation_);
  }

 private:
  Tensor weight_;
  Tensor bias_;
  int groups_;
  float eps_;
  ops::Activation activation_;
};

/// RMS norm over channels as the Wan autoencoders have it (ops::channel_norm), followed by an
/// activation; its weight is stored as "gamma" [C, 1, 1] or [C, 1, 1, 1].
class ChannelNorm {
 public:
  explicit ChannelNorm(const WeightScope& scope,
                       ops::Activation activation = ops::Activation::kNone)
      : weight_(scope.upload("gamma").reshape({-1})), activation_(activation) {}
  Tensor operator()(const Tensor& x, const ops::Output& out = {}) const {
    return ops::channel_norm(x, weight_, activation_, out);
  }

 private:
  Tensor weight_;
  ops::Activation activation_;
};

/// Convolution over NHWC images.
class Conv2d {
 public:
  /// `padding`: top, left, bottom, right.
  Conv2d(const WeightScope& scope, int stride, std::array<int, 4> padding, bool upsamples = false);
  /// Square kernel, stride 1, the same extent out as in.
  static Conv2d same(const WeightScope& scope, int kernel);
  /// The same over an image of twice the extent in both directions, nearest neighbours.
  static Conv2d upsampled(const WeightScope& scope, int kernel);

  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const {
    return ops::conv2d(x, *weights_, residual);
  }

 private:
  std::unique_ptr<ops::PreparedConv2d> weights_;
};

/// Convolution over NDHWC videos that keeps their width and height; see ops::conv3d about time.
class Conv3d {
 public:
  explicit Conv3d(const WeightScope& scope, int stride_t = 1);

  Tensor operator()(const Tensor& x, const Tensor& residual = {}) const {
    return ops::conv3d(x, *weights_, residual);
  }
  const ops::PreparedConv3d& weights() const { return *weights_; }

 private:
  std::unique_ptr<ops::PreparedConv3d> weights_;
};

/// Rows of a table [V, D] by id.
class Embedding {
 public:
  explicit Embedding(const WeightScope& scope) : table_(scope.upload("weight")) {}
  Tensor operator()(const Tensor& ids) const { return ops::embedding(table_, ids); }

 private:
  Tensor table_;
};

}  // namespace dither::nn
