#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "backends/cpu/onednn.h"
#include "ops/types.h"

namespace dither::cpu {

struct PackedLinear;

/// y = residual + gate * activation(scale * q(x) W^T + b) as one oneDNN matmul: weights packed once
/// into its blocked layout, everything after the product applied while the result is in registers.
/// A primitive is made once per shape, dtype and epilogue, and shared by all layers of that shape.
///
/// E4M3 weights stay one byte in memory: codes in the order of the blocked layout, so that one
/// linear pass per call expands them into scratch, as bfloat16 (or float32), which holds every code
/// exactly. In W8A8 activations are quantized to codes in the same type. A product of two codes has
/// at most 8 significant bits, so only the float32 sums round, as on a device that multiplies FP8.
/// Weight-only codes are expanded to the activations' dtype and multiplied in it.
class LinearKernels {
 public:
  /// `native_bf16`: bfloat16 may be multiplied.
  LinearKernels(OneDnn& onednn, ops::Backend& backend, bool native_bf16)
      : onednn_(onednn), backend_(backend), codes_as_(native_bf16 ? DType::kBF16 : DType::kF32) {}

  /// Weights for activations of `dtype`. `rounding` is the dtype to which 16-bit and float32
  /// weights are rounded first: kBF16 for bfloat16 layers that are computed in float32. Throws
  /// kInvalidArgument when the shards cannot be executed together (group_shards()).
  std::unique_ptr<ops::PreparedLinear> prepare(std::span<const ops::LinearShard> shards,
                                               DType dtype, DType rounding);
  /// Throws kInvalidArgument when another backend prepared the weights, or for another dtype.
  void run(const Tensor& x, const ops::PreparedLinear& weights, const ops::LinearEpilogue& epilogue,
           const Tensor& y);

 private:
  struct Shape {
    DType operand;  ///< of what is multiplied
    DType dtype;    ///< of everything else, except the float32 scales
    DType gate_dtype;
    std::int64_t rows, n, k;
    ops::Activation activation;
    bool scale, bias, gate, residual;
    auto operator<=>(const Shape&) const = default;
  };
  struct Primitive {
    dnnl::matmul matmul;
    dnnl::memory::desc scratchpad;
    OneDnn::Args args;
    bool of_one_thread = false;  ///< see multiply()
  };
  /// What a product reads and writes; null: absent.
  struct Pointers {
    std::byte* x;
    std::byte* weights;
    std::byte* scale;
    std::byte* bias;
    std::byte* gate;
    std::byte* residual;
    std::byte* y;
  };
  /// Argument keys of the post-ops' operands.
  struct Operands {
    int scale, bias, gate, residual;
  };

  static Operands operands(const Shape& shape);
  dnnl::matmul::primitive_desc describe(const Shape& shape,
                                        const dnnl::memory::desc& weights) const;
  Primitive& primitive(const Shape& shape, const dnnl::memory::desc& weights);
  static void bind(const Shape& shape, const Pointers& pointers, OneDnn::Args& args);
  void multiply(const Shape& shape, const dnnl::memory::desc& weights, const Pointers& pointers);

  void pack(const Tensor& plain, PackedLinear& layer);
  Tensor expanded(const PackedLinear& layer);
  Tensor quantized(const Tensor& x, const PackedLinear& layer);

  OneDnn& onednn_;
  ops::Backend& backend_;
  DType codes_as_;
  std::map<Shape, Primitive> primitives_;
};

}  // namespace dither::cpu
