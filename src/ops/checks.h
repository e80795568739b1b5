#pragma once

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"
#include "ops/ops.h"

/// What the ops of this room check before a backend runs them, and where results go.
namespace dither::ops {

/// Checks operands of one op; every failure names the op, the operand and both shapes.
class Check {
 public:
  explicit Check(std::string_view op) : op_(op) {}

  void that(bool condition, std::string_view what) const {
    if (!condition) throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", op_, what));
  }
  void shape(std::string_view operand, const Tensor& tensor, const Shape& expected) const {
    if (tensor.shape() == expected) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, expected shape {}", op_, operand, to_string(tensor),
                            to_string(expected)));
  }
  void rank(std::string_view operand, const Tensor& tensor, int expected) const {
    if (tensor.rank() == expected) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, expected {} dimensions", op_, operand, to_string(tensor),
                            expected));
  }
  /// An activation (kF32 or kBF16); with `like`, of the same dtype and device.
  void activation(std::string_view operand, const Tensor& tensor) const {
    if (tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, expected F32 or BF16", op_, operand, to_string(tensor)));
  }
  void like(std::string_view operand, const Tensor& tensor, const Tensor& other) const {
    like(operand, tensor, other.dtype(), other);
  }
  /// The same where `other` holds codes of such activations.
  void like(std::string_view operand, const Tensor& tensor, DType dtype,
            const Tensor& other) const {
    if (tensor.dtype() == dtype && tensor.device() == other.device()) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} is {}, which differs from {} in dtype or device", op_, operand,
                            to_string(tensor), to_string(other)));
  }
  /// What multiplies activations of `dtype` per sample and channel: of that dtype or F32.
  void modulation(std::string_view operand, const Tensor& tensor, DType dtype,
                  const Tensor& x) const {
    like(operand, tensor, tensor.dtype() == DType::kF32 ? DType::kF32 : dtype, x);
  }
  /// `expected`: [B, D]; one row serves all samples.
  void modulated_norm(const Tensor& shift, const Tensor& scale, const Shape& expected, DType dtype,
                      const Tensor& x) const {
    that(shift.shape() == scale.shape() && shift.dtype() == scale.dtype(),
         fmt::format("shift {} and scale {} differ", to_string(shift), to_string(scale)));
    if (shift.rank() != 2 || shift.dim(0) != 1 || shift.dim(1) != expected[1]) {
      shape("shift", shift, expected);
    }
    modulation("shift", shift, dtype, x);
    modulation("scale", scale, dtype, x);
  }
  /// A per-channel weight [D] in x's dtype.
  void channel_weight(std::string_view operand, const Tensor& tensor, const Tensor& x,
                      std::int64_t channels) const {
    shape(operand, tensor, {channels});
    like(operand, tensor, x);
    that(tensor.contiguous(), "weights of a norm must be contiguous");
  }

 private:
  std::string_view op_;
};

inline Tensor like(const Tensor& x, const Shape& shape) {
  return Tensor::empty(shape, x.dtype(), backend_of(x));
}

/// Where a result of `shape` and `dtype` goes: out's tensor, checked, or a new one.
inline Tensor destination(const Check& check, const Output& out, const Shape& shape, DType dtype,
                          Backend& backend) {
  if (out.e4m3_scale) {
    dtype = DType::kF8E4M3;
    check.that(backend.traits().e4m3_activations,
               fmt::format("backend {} does not write E4M3 codes", backend.name()));
  }
  if (!out.tensor.defined()) return Tensor::empty(shape, dtype, backend);
  check.shape("out", out.tensor, shape);
  check.that(out.tensor.dtype() == dtype && out.tensor.device() == &backend,
             fmt::format("out is {}, expected {} on the operands' device", to_string(out.tensor),
                         dtype_name(dtype)));
  return out.tensor;
}

/// Runs `kernel(y)` with a y that the backend can write to, and brings the result to `out`.
template <typename Kernel>
void write_to(const Tensor& out, Backend& backend, const Kernel& kernel) {
  if (out.contiguous() || (backend.traits().strided_results && is_row_view(out))) {
    kernel(out);
    return;
  }
  const Tensor y = Tensor::empty(out.shape(), out.dtype(), backend);
  kernel(y);
  backend.copy(y, out);
}

inline Shape with_last(const Shape& shape, std::int64_t last) {
  Shape result = shape;
  result[-1] = last;
  return result;
}

/// x, or a copy of it whose rows a backend takes.
inline Tensor rows_of(const Tensor& x) { return is_row_view(x) ? x : contiguous(x); }

}  // namespace dither::ops
