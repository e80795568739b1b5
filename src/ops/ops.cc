#include "ops/ops.h"

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"
#include "ops/checks.h"

namespace dither::ops {
Backend& backend_of(const Tensor& tensor) {
  if (tensor.device() == nullptr) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{} is in host memory, an op needs it on a backend", to_string(tensor)));
  }
  return static_cast<Backend&>(*tensor.device());  // the only kind of Device there is
}

Tensor linear(const Tensor& x, const PreparedLinear& weights, const LinearEpilogue& epilogue) {
  const Check check("linear");
  DType dtype = x.dtype();
  if (dtype == DType::kF8E4M3) {
    const auto codes = weights.e4m3_input();
    check.that(codes.has_value(), "x is F8_E4M3, but these weights do not take codes");
    dtype = codes->activations;
  } else {
    check.activation("x", x);
  }
  check.shape("x", x, with_last(x.shape(), weights.in_features()));
  const Shape shape = with_last(x.shape(), weights.out_features());
  LinearEpilogue prepared = epilogue;
  if (epilogue.gate.defined()) {
    check.rank("x", x, 3);
    check.shape("gate", epilogue.gate, {x.dim(0), weights.out_features()});
    check.modulation("gate", epilogue.gate, dtype, x);
    prepared.gate = rows_of(epilogue.gate);
  }
  if (epilogue.residual.defined()) {
    check.shape("residual", epilogue.residual, shape);
    check.like("residual", epilogue.residual, dtype, x);
    prepared.residual = rows_of(epilogue.residual);
  }
  Backend& backend = backend_of(x);
  Tensor y = destination(check, epilogue.out, shape, dtype, backend);
  const Tensor rows = rows_of(x);
  if (y.elements() > 0) {
    write_to(y, backend,
             [&](const Tensor& result) { backend.linear(rows, weights, prepared, result); });
  }
  if (LinearProbe* probe = backend.linear_probe()) probe->on_linear(weights, rows, prepared, y);
  return y;
}

NormedStream linear_norm(const Tensor& x, const PreparedLinear& weights,
                         const LinearEpilogue& epilogue, const ModulatedNorm& norm) {
  Backend& backend = backend_of(x);
  // Also where a probe looks at the result, since the norm is none of its business.
  if (!backend.traits().norms_linear_results) {
    const Tensor y = linear(x, weights, epilogue);
    return {.x = y, .normalized = layer_norm_modulate(y, norm)};
  }
  const Check check("linear_norm");
  check.rank("x", x, 3);
  check.that(!epilogue.out.e4m3_scale, "the result that is normalised cannot be E4M3 codes");
  const auto codes = weights.e4m3_input();
  const DType dtype = x.dtype() == DType::kF8E4M3 && codes ? codes->activations : x.dtype();
  check.modulated_norm(norm.shift, norm.scale, {x.dim(0), weights.out_features()}, dtype, x);
  const ModulatedNorm rows{.shift = rows_of(norm.shift),
                           .scale = rows_of(norm.scale),
                           .eps = norm.eps,
                           .e4m3_scale = norm.e4m3_scale};
  LinearEpilogue fused = epilogue;
  fused.norm = &rows;
  fused.normalized = destination(check, {.e4m3_scale = norm.e4m3_scale},
                                 {x.dim(0), x.dim(1), weights.out_features()}, dtype, backend);
  Tensor y = linear(x, weights, fused);
  return {.x = std::move(y), .normalized = std::move(fused.normalized)};
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  const Check check("layer_norm");
  check.activation("x", x);
  check.that(weight.defined() == bias.defined(), "weight and bias come together");
  if (weight.defined()) {
    check.channel_weight("weight", weight, x, x.dim(-1));
    check.channel_weight("bias", bias, x, x.dim(-1));
  }
  Tensor y = like(x, x.shape());
  backend_of(x).layer_norm(rows_of(x), weight, bias, eps, y);
  return y;
}

Tensor layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           const Output& out) {
  const Check check("layer_norm_modulate");
  check.activation("x", x);
  check.rank("x", x, 3);
  check.modulated_norm(shift, scale, {x.dim(0), x.dim(2)}, x.dtype(), x);
  Backend& backend = backend_of(x);
  Tensor y = destination(check, out, x.shape(), x.dtype(), backend);
  write_to(y, backend, [&](const Tensor& result) {
    backend.layer_norm_modulate(rows_of(x), rows_of(shift), rows_of(scale), eps, out.e4m3_scale,
                                result);
  });
  return y;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  const Check check("rms_norm");
  check.activation("x", x);
  check.channel_weight("weight", weight, x, x.dim(-1));
  Tensor y = like(x, x.shape());
  backend_of(x).rms_norm(rows_of(x), weight, eps, y);
  return y;
}

Tensor embedding(const Tensor& table, const Tensor& ids) {
  const Check check("embedding");
  check.activation("table", table);
  check.rank("table", table, 2);
  check.rank("ids", ids, 2);
  check.that(ids.dtype() == DType::kI32 && ids.contiguous(), "ids must be contiguous I32");
  Tensor y = like(table, {ids.dim(0), ids.dim(1), table.dim(1)});
  backend_of(table).embedding(table, ids, y);
  return y;
}

Tensor activate(const Tensor& x, Activation activation) {
  Check("activate").activation("x", x);
  Tensor y = like(x, x.shape());
  backend_of(x).activate(rows_of(x), activation, y);
  return y;
}

Tensor gated_activation(const Tensor& x, Activation activation, const Output& out) {
  const Check check("gated_activation");
  check.activation("x", x);
  check.that(x.dim(-1) % 2 == 0, "the last dimension must be even");
  Backend& backend = backend_of(x);
  Tensor y = destination(check, out, with_last(x.shape(), x.dim(-1) / 2), x.dtype(), backend);
  write_to(y, backend, [&](const Tensor& result) {
    backend.gated_activation(rows_of(x), activation, out.e4m3_scale, result);
  });
  return y;
}

Tensor add(const Tensor& a, const Tensor& b) {
  const Check check("add");
  check.activation("a", a);
  check.like("b", b, a);
  check.that(b.rank() <= a.rank(), "b must not have more dimensions than a");
  for (int i = 1; i <= b.rank(); ++i) {
    check.that(a.dim(-i) == b.dim(-i),
               fmt::format("{} is not a suffix of {}", to_string(b), to_string(a)));
  }
  Tensor y = like(a, a.shape());
  backend_of(a).add(contiguous(a), contiguous(b), y);
  return y;
}

Tensor add_scaled(const Tensor& x, const Tensor& v, float factor) {
  const Check check("add_scaled");
  check.activation("x", x);
  check.shape("v", v, x.shape());
  check.like("v", v, x);
  Tensor y = like(x, x.shape());
  backend_of(x).add_scaled(contiguous(x), contiguous(v), factor, y);
  return y;
}

Tensor affine(const Tensor& x, float factor, float offset) {
  Check("affine").activation("x", x);
  Tensor y = like(x, x.shape());
  backend_of(x).affine(contiguous(x), factor, offset, y);
  return y;
}

Tensor empty_like(const Tensor& like, const Shape& shape, std::optional<DType> dtype) {
  return Tensor::empty(shape, dtype.value_or(like.dtype()), backend_of(like));
}

Tensor concat(std::span<const Tensor> tensors, int dim) {
  const Check check("concat");
  check.that(!tensors.empty(), "needs a tensor");
  const Tensor& first = tensors.front();
  Shape shape = first.shape();
  shape[dim] = 0;
  for (const Tensor& tensor : tensors) {
    check.that(tensor.rank() == first.rank(), "ranks differ");
    Shape expected = first.shape();
    expected[dim] = tensor.dim(dim);
    check.shape("operand", tensor, expected);
    check.like("operand", tensor, first);
    shape[dim] += tensor.dim(dim);
  }
  Tensor y = like(first, shape);
  std::int64_t begin = 0;
  for (const Tensor& tensor : tensors) {
    backend_of(first).copy(tensor, y.slice(dim, begin, begin + tensor.dim(dim)));
    begin += tensor.dim(dim);
  }
  return y;
}

void copy(const Tensor& from, const Tensor& to) {
  const Check check("copy");
  check.shape("to", to, from.shape());
  check.like("to", to, from);
  backend_of(from).copy(from, to);
}

Tensor contiguous(const Tensor& x) {
  if (x.contiguous()) return x;
  Tensor y = like(x, x.shape());
  backend_of(x).copy(x, y);
  return y;
}

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::empty(x.shape(), dtype, backend_of(x));
  backend_of(x).copy(x, y);
  return y;
}

}  // namespace dither::ops
