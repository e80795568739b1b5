#include "backends/cuda/projections.h"

#include <algorithm>
#include <array>
#include <utility>

#include "backends/cuda/attention.h"
#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/norm_rope.h"
#include "backends/cuda/kernels/quantize.h"
#include "ops/backend.h"

namespace dither::cuda {
namespace {

/// Rows [B L, H D] of q, k or v [B, L, H, D].
RowView rows_of(const Tensor& t) {
  return {t.raw(), t.dim(0) * t.dim(1), t.dim(2) * t.dim(3), t.strides()[1]};
}

/// Of one stream, whose tokens begin at `first`; v goes to `values`.
RotatedHeads rotated_heads(const Tensor& q_norm, const Tensor& k_norm, std::int64_t tokens,
                           const ops::Rope& rope, float eps, const ops::AttentionOperands& out,
                           const Tensor& values, std::int64_t first) {
  const std::int64_t head_dim = out.q.dim(3);
  return {.heads = out.q.dim(2),
          .head_dim = head_dim,
          .q_norm = q_norm.raw(),
          .k_norm = k_norm.raw(),
          .cos = rope.cos.data<float>() + first * (head_dim / 2),
          .sin = rope.sin.data<float>() + first * (head_dim / 2),
          .eps = eps,
          .tokens = tokens,
          .out_tokens = out.q.dim(1),
          .first_token = first,
          .q = rows_of(out.q),
          .k = rows_of(out.k),
          .v = values.defined() ? rows_of(values) : RowView{},
          .codes = out.q.dtype() == DType::kF8E4M3};
}

NormRopeArgs norm_rope_args(const ops::PackedQkv& stream, const ops::Rope& rope, float eps,
                            const ops::AttentionOperands& out, std::int64_t first) {
  // In place the values stay where they are; their blocks have a kernel of their own.
  const bool moved = out.v.storage() != stream.qkv.storage() && value_blocks(out).codes == nullptr;
  NormRopeArgs args{};
  static_cast<RotatedHeads&>(args) = rotated_heads(stream.q_norm, stream.k_norm, stream.qkv.dim(1),
                                                   rope, eps, out, moved ? out.v : Tensor{}, first);
  args.qkv = row_view(stream.qkv);
  args.dtype = stream.qkv.dtype();
  args.across_heads = stream.norm_width() != args.head_dim;
  if (args.codes) args.v_reciprocal = out.v_scale.data<float>() + kReciprocalElement;
  return args;
}

/// The same of a projection that is not made yet.
ProjectionArgs projection_args(const ops::HeadProjection& stream, const ops::Rope& rope, float eps,
                               const ops::AttentionOperands& out, const Tensor& values,
                               std::int64_t first) {
  ProjectionArgs args{};
  static_cast<RotatedHeads&>(args) =
      rotated_heads(stream.q_norm, stream.k_norm, stream.x.dim(1), rope, eps, out, values, first);
  return args;
}

void add_gated(ProjectionArgs& args, ops::Activation activation, std::optional<float> e4m3_scale,
               const Tensor& y) {
  args.gated = y.dim(-1);
  args.activation = activation;
  args.y = row_view(y);
  if (e4m3_scale) args.y_reciprocal = 1 / *e4m3_scale;
}

/// The columns of v in a projection [B, L, 3 H D].
Tensor values_of(const Tensor& qkv) {
  const std::int64_t width = qkv.dim(-1) / 3;
  return qkv.slice(-1, 2 * width, 3 * width);
}

/// A zero that kernels raise to the largest magnitude of the values.
Tensor zero(ops::Backend& backend, cudaStream_t stream) {
  Tensor largest = Tensor::empty({1}, DType::kF32, backend);
  check(cudaMemsetAsync(largest.raw(), 0, largest.bytes(), stream), "zero a number");
  return largest;
}

void set_scales(const Tensor& largest, const ops::AttentionOperands& out, cudaStream_t stream) {
  float* const scale = out.v_scale.data<float>();
  launch_e4m3_scales(largest.data<float>(), scale, scale + kReciprocalElement, stream);
}

/// Blocks of the values of a stream, rows [B L_s, H D].
void block_values(const RowView& rows, const ops::AttentionOperands& out, std::int64_t first,
                  cudaStream_t stream) {
  launch_block_values({.v = rows,
                       .batch = out.q.dim(0),
                       .heads = out.q.dim(2),
                       .first_token = first,
                       .to = value_blocks(out)},
                      stream);
}

/// Whether every stream has blocks of its own, and tiles of a projection's rows are their keys.
template <typename Streams, typename Length>
bool blocks_by_stream(const Streams& streams, const ops::AttentionOperands& out,
                      const Length& length_of) {
  // A sample that does not end with a block moves the next one's rows.
  const std::int64_t end = out.q.dim(0) == 1 ? out.q.dim(1) : 0;
  std::int64_t first = 0;
  return std::ranges::all_of(streams, [&](const auto& stream) {
    const std::int64_t begin = std::exchange(first, first + length_of(stream));
    return has_value_blocks(begin, first - begin, end);
  });
}

}  // namespace

void ProjectionKernels::norm_rope_heads(std::span<const ops::PackedQkv> streams,
                                        const ops::Rope& rope, float eps,
                                        const ops::AttentionOperands& out) {
  const bool codes = out.q.dtype() == DType::kF8E4M3;
  const bool blocks = value_blocks(out).codes != nullptr;
  if (blocks) {
    const bool by_stream =
        streams.size() == 1 ||
        blocks_by_stream(streams, out, [](const auto& stream) { return stream.qkv.dim(1); });
    const Tensor joint =
        by_stream ? Tensor() : Tensor::empty(out.q.shape(), DType::kBF16, backend_);
    std::int64_t first = 0;
    for (const ops::PackedQkv& stream : streams) {
      place_values(values_of(stream.qkv), out, first, joint);
      first += stream.qkv.dim(1);
    }
    finish_blocks(out, joint);
  } else if (codes) {
    const Tensor largest = zero(backend_, stream_);
    for (const ops::PackedQkv& stream : streams) {
      launch_largest_magnitude(row_view(values_of(stream.qkv)), stream.qkv.dtype(),
                               largest.data<float>(), stream_);
    }
    set_scales(largest, out, stream_);
  }
  std::int64_t first = 0;
  for (const ops::PackedQkv& stream : streams) {
    launch_norm_rope(norm_rope_args(stream, rope, eps, out, first), stream_);
    first += stream.qkv.dim(1);
  }
}

void ProjectionKernels::project_heads(std::span<const ops::HeadProjection> streams,
                                      const ops::Rope& rope, float eps,
                                      const ops::AttentionOperands& out) {
  // Codes of v need the largest of all values, or of a block: until that is known they wait as
  // activations.
  const bool codes = out.q.dtype() == DType::kF8E4M3;
  const bool blocks = value_blocks(out).codes != nullptr;
  const bool by_stream =
      blocks && blocks_by_stream(streams, out, [](const auto& stream) { return stream.x.dim(1); });
  Tensor values = out.v;
  if (codes) values = by_stream ? Tensor() : Tensor::empty(out.q.shape(), DType::kBF16, backend_);
  const Tensor largest = codes && !blocks ? zero(backend_, stream_) : Tensor();
  std::int64_t first = 0;
  for (const ops::HeadProjection& stream : streams) {
    ProjectionArgs args = projection_args(stream, rope, eps, out, values, first);
    if (by_stream) args.v_blocks = value_blocks(out);
    if (largest.defined()) args.v_largest = largest.data<float>();
    if (stream.gated) {
      const ops::Output& y = stream.gated->out;
      add_gated(args, stream.gated->activation, y.e4m3_scale, y.tensor);
    }
    if (!fused(stream.x, *stream.weights, args)) {
      project_in_steps(stream, rope, eps, out, first, values, args.v_largest);
    }
    first += stream.x.dim(1);
  }
  if (!codes) return;
  if (blocks) return finish_blocks(out, values);
  set_scales(largest, out, stream_);
  launch_quantize_e4m3({.x = rows_of(values),
                        .codes = rows_of(out.v),
                        .dtype = values.dtype(),
                        .device_reciprocal = out.v_scale.data<float>() + kReciprocalElement},
                       stream_);
}

void ProjectionKernels::place_values(const Tensor& v, const ops::AttentionOperands& out,
                                     std::int64_t first, const Tensor& joint) {
  if (joint.defined()) {
    backend_.copy(v, joint.slice(1, first, first + v.dim(1)).reshape(v.shape()));
  } else {
    block_values(row_view(v), out, first, stream_);
  }
}

void ProjectionKernels::finish_blocks(const ops::AttentionOperands& out, const Tensor& joint) {
  if (joint.defined()) block_values(rows_of(joint), out, 0, stream_);
  launch_zero_blocks(value_blocks(out), out.q.dim(0) * out.q.dim(2), out.q.dim(1), stream_);
}

void ProjectionKernels::project_in_steps(const ops::HeadProjection& stream, const ops::Rope& rope,
                                         float eps, const ops::AttentionOperands& out,
                                         std::int64_t first, const Tensor& values,
                                         float* v_largest) {
  const std::int64_t width = 3 * out.q.dim(2) * out.q.dim(3);
  const Tensor product =
      Tensor::empty({stream.x.dim(0), stream.x.dim(1), stream.weights->out_features()},
                    stream.q_norm.dtype(), backend_);
  linear_.run(stream.x, *stream.weights, {}, product);
  const ops::PackedQkv packed{product.slice(-1, 0, width), stream.q_norm, stream.k_norm};
  NormRopeArgs steps = norm_rope_args(packed, rope, eps, out, first);
  if (out.q.dtype() == DType::kF8E4M3) {
    const Tensor v = values_of(packed.qkv);
    if (v_largest != nullptr) {
      launch_largest_magnitude(row_view(v), v.dtype(), v_largest, stream_);
    }
    place_values(v, out, first, values);
    steps.v = {};
  }
  launch_norm_rope(steps, stream_);
  if (stream.gated) {
    gated_activation(product.slice(-1, width, product.dim(-1)), stream.gated->activation,
                     stream.gated->out.e4m3_scale, stream.gated->out.tensor);
  }
}

void ProjectionKernels::gated_linear(const Tensor& x, const ops::PreparedLinear& weights,
                                     ops::Activation activation, std::optional<float> e4m3_scale,
                                     const Tensor& y) {
  ProjectionArgs args{};
  add_gated(args, activation, e4m3_scale, y);
  if (fused(x, weights, args)) return;
  Shape shape = y.shape();
  shape[-1] = weights.out_features();
  const DType dtype = e4m3_scale ? weights.e4m3_input()->activations : y.dtype();
  const Tensor product = Tensor::empty(shape, dtype, backend_);
  linear_.run(x, weights, {}, product);
  gated_activation(product, activation, e4m3_scale, y);
}

void ProjectionKernels::gated_activation(const Tensor& x, ops::Activation activation,
                                         std::optional<float> e4m3_scale, const Tensor& y) {
  const std::int64_t width = y.dim(-1);
  ActivateArgs args{};
  args.x = row_view(x.slice(-1, 0, width));
  args.b = row_view(x.slice(-1, width, 2 * width));
  args.y = row_view(y);
  args.dtype = x.dtype();
  args.activation = activation;
  if (e4m3_scale) args.e4m3_reciprocal = 1 / *e4m3_scale;
  launch_activate(args, stream_);
}

/// Launches the projection where it is one product that the kernel takes.
bool ProjectionKernels::fused(const Tensor& x, const ops::PreparedLinear& weights,
                              ProjectionArgs args) {
  // What the results say first: operands cost a pass, which the steps would make again.
  if (!projection_fills_device(x.elements() / x.dim(-1), args) || !projection_fits(args)) {
    return false;
  }
  const std::optional<LinearOperands> operands = linear_.operands(x, weights);
  if (!operands) return false;
  args.x = row_view(operands->x);
  args.weight = operands->w.data;
  args.dtype = operands->w.dtype;
  args.n = weights.out_features();
  args.alpha = operands->scale;
  args.row_scales = operands->row_scales;
  args.bias = operands->bias;
  if (!projection_fits(args)) return false;
  launch_projection(args, stream_);
  return true;
}

}  // namespace dither::cuda
