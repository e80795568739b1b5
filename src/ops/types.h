#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace dither::ops {

/// Element-wise functions that kernels can apply on their way out.
enum class Activation : std::uint8_t {
  kNone,
  kSilu,       ///< x * sigmoid(x)
  kGeluTanh,   ///< x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))): "gelu_new", GELU(tanh)
  kQuickGelu,  ///< x * sigmoid(1.702 x), CLIP
};

/// One linear layer of a checkpoint. Several that read the same input are executed as one, stacked
/// along N (q, k, v): every shard keeps its own name.
struct LinearShard {
  std::string name;  ///< in the checkpoint, without ".weight"
  Tensor weight;     ///< [N, K] in host memory: F32, F16, BF16 or kF8E4M3 codes
  Tensor bias;       ///< [N] in host memory, or absent
  /// What the stored numbers are multiplied by: FP8's and NVFP4's per-tensor scale.
  std::optional<float> weight_scale = std::nullopt;
  /// Static activation scale. With E4M3 codes the product runs in FP8 (W8A8):
  ///   y = input_scale * weight_scale * sum_k e4m3(clamp(x / input_scale)) * weight,
  /// without one the weight is only stored in FP8 (weight-only): codes stay in memory and are
  /// multiplied in the activations' dtype, which holds each exactly.
  std::optional<float> input_scale = std::nullopt;
  /// Weight-only E4M3: row n's codes are multiplied by 2^row_exponents[n] too. Empty: by 1.
  std::vector<std::int8_t> row_exponents = {};
  /// Whose checkpoint: layers of several models have one name.
  std::string component = {};
};

/// Where a kernel writes its result, and as what.
struct Output {
  /// A row view of the result's shape; absent: a new contiguous tensor. Its dtype is the result's,
  /// or kF8E4M3 with an e4m3_scale.
  Tensor tensor = {};
  /// The result y as codes to_e4m3_saturated(y * (1 / e4m3_scale)), y rounded to the activations'
  /// dtype first: what a layer with that input_scale would make of it. For backends that multiply
  /// codes (BackendTraits::e4m3_activations).
  std::optional<float> e4m3_scale = std::nullopt;
};

/// The codes that an FP8 layer takes as they are, besides activations.
struct E4m3Input {
  float scale = 1;                   ///< the layer's input_scale
  DType activations = DType::kBF16;  ///< dtype of its result, gate and residual
};

/// How a backend executes one shard: what the attestation of a run is made of.
struct LinearPrecision {
  std::string name;               ///< the shard's
  DType stored = DType::kBF16;    ///< of the weight in the checkpoint
  DType resident = DType::kBF16;  ///< of the weight in memory
  DType product = DType::kBF16;   ///< of the operands that are multiplied
  std::string kernel;             ///< "onednn bf16", "reference e4m3", ...
  std::optional<float> weight_scale = std::nullopt;
  std::optional<float> input_scale = std::nullopt;
  /// Of a weight that was quantized when it was loaded: |codes * scales - w| / |w|.
  std::optional<double> weight_error = std::nullopt;
  std::string component = {};  ///< the shard's
};

/// y = x W^T + b in a backend's execution layout.
class PreparedLinear {
 public:
  PreparedLinear(std::int64_t in_features, std::int64_t out_features,
                 std::vector<LinearPrecision> precision = {})
      : in_features_(in_features), out_features_(out_features), precision_(std::move(precision)) {}
  virtual ~PreparedLinear() = default;
  PreparedLinear(const PreparedLinear&) = delete;
  PreparedLinear& operator=(const PreparedLinear&) = delete;

  std::int64_t in_features() const { return in_features_; }    ///< K
  std::int64_t out_features() const { return out_features_; }  ///< N, all shards together
  /// Memory that this layer's weights occupy on the device.
  virtual std::size_t resident_bytes() const = 0;
  /// Present when linear() may be given E4M3 codes made with this scale in place of activations.
  virtual std::optional<E4m3Input> e4m3_input() const { return std::nullopt; }
  /// One entry per shard, in the order of their rows.
  std::span<const LinearPrecision> precision() const { return precision_; }

 private:
  std::int64_t in_features_;
  std::int64_t out_features_;
  std::vector<LinearPrecision> precision_;
};

/// (1 + scale) LayerNorm(x) + shift: AdaLN of DiT (Peebles & Xie 2023), in the form in which its
/// reader takes it.
struct ModulatedNorm {
  Tensor shift = {};  ///< [B, D], or [1, D] for all samples; activations' dtype or F32, as scale
  Tensor scale = {};
  float eps = 0;
  std::optional<float> e4m3_scale = std::nullopt;  ///< as Output's
};

/// What a linear layer does after the product: residual + gate * activation(x W^T + b).
struct LinearEpilogue {
  Activation activation = Activation::kNone;
  /// [B, N], broadcast over the tokens of a sample, in the activations' dtype or F32; absent: 1
  Tensor gate = {};
  Tensor residual = {};  ///< like the result; absent: 0
  Output out = {};
  /// The result is also normalised, into `normalized`, by backends with
  /// BackendTraits::norms_linear_results; see ops::linear_norm().
  const ModulatedNorm* norm = nullptr;
  Tensor normalized = {};
};

/// Watches linear layers from outside: calibration records what goes in, comparison what comes out.
class LinearProbe {
 public:
  virtual ~LinearProbe() = default;
  /// After y = linear(x); tensors live on the backend and are valid during the call. `epilogue` is
  /// what y contains beyond the product.
  virtual void on_linear(const PreparedLinear& weights, const Tensor& x,
                         const LinearEpilogue& epilogue, const Tensor& y) = 0;
};

/// A 2-D convolution over NHWC images.
struct Conv2dWeights {
  std::string name;
  Tensor weight;  ///< [C_out, C_in, kh, kw] in host memory, the checkpoint's layout
  Tensor bias;    ///< [C_out] in host memory, or absent
  int stride = 1;
  std::array<int, 4> padding = {0, 0, 0, 0};  ///< top, left, bottom, right; zeros
  bool upsamples = false;  ///< the convolution sees upsample_nearest2x() of its input
};

/// Geometry of a prepared convolution; backends add the weights in their own layout.
class PreparedConv2d {
 public:
  explicit PreparedConv2d(const Conv2dWeights& weights)
      : in_channels_(weights.weight.dim(1)),
        out_channels_(weights.weight.dim(0)),
        kernel_h_(weights.weight.dim(2)),
        kernel_w_(weights.weight.dim(3)),
        stride_(weights.stride),
        padding_(weights.padding),
        upsamples_(weights.upsamples) {}
  virtual ~PreparedConv2d() = default;
  PreparedConv2d(const PreparedConv2d&) = delete;
  PreparedConv2d& operator=(const PreparedConv2d&) = delete;

  std::int64_t in_channels() const { return in_channels_; }
  std::int64_t out_channels() const { return out_channels_; }
  std::int64_t kernel_h() const { return kernel_h_; }
  std::int64_t kernel_w() const { return kernel_w_; }
  int stride() const { return stride_; }
  const std::array<int, 4>& padding() const { return padding_; }
  bool upsamples() const { return upsamples_; }
  /// Backend::conv2d() gets the small image of a convolution that upsamples, not the large one.
  virtual bool takes_small_image() const { return false; }
  /// Extent of the output for an input extent.
  std::int64_t out_h(std::int64_t h) const {
    return (seen(h) + padding_[0] + padding_[2] - kernel_h_) / stride_ + 1;
  }
  std::int64_t out_w(std::int64_t w) const {
    return (seen(w) + padding_[1] + padding_[3] - kernel_w_) / stride_ + 1;
  }
  virtual std::size_t resident_bytes() const = 0;

 private:
  std::int64_t seen(std::int64_t extent) const { return upsamples_ ? 2 * extent : extent; }

  std::int64_t in_channels_;
  std::int64_t out_channels_;
  std::int64_t kernel_h_;
  std::int64_t kernel_w_;
  int stride_;
  std::array<int, 4> padding_;
  bool upsamples_;
};

/// A 3-D convolution over NDHWC videos: it strides in time alone and pads in space alone, since
/// what lies before the first frame is for the caller to say.
struct Conv3dWeights {
  std::string name;
  Tensor weight;  ///< [C_out, C_in, kt, kh, kw] in host memory, the checkpoint's layout
  Tensor bias;    ///< [C_out] in host memory, or absent
  int stride_t = 1;
  std::array<int, 4> padding = {0, 0, 0, 0};  ///< top, left, bottom, right; zeros
};

/// As PreparedConv2d.
class PreparedConv3d {
 public:
  explicit PreparedConv3d(const Conv3dWeights& weights)
      : in_channels_(weights.weight.dim(1)),
        out_channels_(weights.weight.dim(0)),
        kernel_t_(weights.weight.dim(2)),
        kernel_h_(weights.weight.dim(3)),
        kernel_w_(weights.weight.dim(4)),
        stride_t_(weights.stride_t),
        padding_(weights.padding) {}
  virtual ~PreparedConv3d() = default;
  PreparedConv3d(const PreparedConv3d&) = delete;
  PreparedConv3d& operator=(const PreparedConv3d&) = delete;

  std::int64_t in_channels() const { return in_channels_; }
  std::int64_t out_channels() const { return out_channels_; }
  std::int64_t kernel_t() const { return kernel_t_; }
  std::int64_t kernel_h() const { return kernel_h_; }
  std::int64_t kernel_w() const { return kernel_w_; }
  int stride_t() const { return stride_t_; }
  const std::array<int, 4>& padding() const { return padding_; }
  /// Extent of the output for an input extent; not positive where the input is too small.
  std::int64_t out_frames(std::int64_t frames) const {
    return frames < kernel_t_ ? 0 : (frames - kernel_t_) / stride_t_ + 1;
  }
  std::int64_t out_h(std::int64_t h) const { return h + padding_[0] + padding_[2] - kernel_h_ + 1; }
  std::int64_t out_w(std::int64_t w) const { return w + padding_[1] + padding_[3] - kernel_w_ + 1; }
  virtual std::size_t resident_bytes() const = 0;

 private:
  std::int64_t in_channels_;
  std::int64_t out_channels_;
  std::int64_t kernel_t_;
  std::int64_t kernel_h_;
  std::int64_t kernel_w_;
  int stride_t_;
  std::array<int, 4> padding_;
};

/// Rotary position tables: one angle per token and per pair of channels (2i, 2i+1).
struct Rope {
  Tensor cos;  ///< [L, D/2] f32
  Tensor sin;  ///< [L, D/2] f32
};

/// One stream's packed projections and the weights of its query and key norms: [D] where every
/// head is normalised by itself, [H D] where all heads of a token are normalised together.
struct PackedQkv {
  Tensor qkv;     ///< [B, L, 3 H D], columns [q | k | v]; rows may be strided
  Tensor q_norm;  ///< [D] or [H D]
  Tensor k_norm;  ///< as q_norm

  /// Channels that are normalised together.
  std::int64_t norm_width() const { return q_norm.dim(0); }
};

/// activation(a) * b of a product's columns [a | b] (GLU family, Shazeer 2020).
struct GatedColumns {
  Activation activation = Activation::kNone;
  Output out = {};
};

/// One stream of an attention before its projections.
struct HeadProjection {
  Tensor x;                                 ///< [B, L_s, K], or E4M3 codes
  const PreparedLinear* weights = nullptr;  ///< N = 3 H D: [q | k | v]; with `gated` [a | b] after
                                            ///< them, 2 F columns
  Tensor q_norm;                            ///< [D]
  Tensor k_norm;                            ///< [D]
  std::optional<GatedColumns> gated = std::nullopt;  ///< to a tensor [B, L_s, F]
};

/// In which precision an attention multiplies.
enum class AttentionPrecision : std::uint8_t {
  kActivations,  ///< the activations' dtype
  kE4m3,         ///< E4M3 codes with float32 sums, where BackendTraits::e4m3_attention
};

/// Operands of an attention, each [B, L, H, D]: activations, or E4M3 codes. The codes of q and k
/// stand for themselves: a norm over n channels has bounded them by sqrt(n) max |weight|, and codes
/// are as sharp at 1 as anywhere. Those of v have scales; both lie as Backend::e4m3_values() says.
struct AttentionOperands {
  Tensor q;
  Tensor k;
  Tensor v;
  Tensor v_scale = {};  ///< f32, of codes
};

/// Shapes of AttentionOperands::v and v_scale where they are codes.
struct E4m3Values {
  Shape codes;
  Shape scales;
};

/// Codes of the first tokens of every sample, where other layers read them than the others.
struct FirstCodes {
  std::int64_t tokens = 0;
  float e4m3_scale = 1;  ///< as Output's
};

struct AttentionOptions {
  float scale = 1.0F;   ///< multiplies q k^T
  bool causal = false;  ///< position i sees positions <= i
  Tensor bias = {};     ///< [H, Lq, Lk] f32 added to the scaled scores, or absent
  Output out = {};
  std::optional<FirstCodes> first_codes = std::nullopt;  ///< with out.e4m3_scale alone
};

}  // namespace dither::ops
