#include "backends/cpu/cpu_backend.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "backends/cpu/convolution.h"
#include "backends/cpu/host_backend.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/linear.h"
#include "backends/cpu/parallel.h"
#include "backends/cpu/strided.h"

namespace dither::cpu {
namespace {

/// Elements that a thread should get at least: below it, waking one (about a microsecond) costs
/// more than it saves.
constexpr std::int64_t kGrain = 8192;

std::int64_t rows_per_thread(std::int64_t cols) {
  return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, cols));
}

RowView optional_rows(const Tensor& tensor) {
  return tensor.defined() ? row_view(tensor) : RowView{};
}

std::size_t byte_count(std::int64_t elements, DType dtype) {
  return static_cast<std::size_t>(elements) * static_cast<std::size_t>(dtype_bits(dtype) / 8);
}

/// oneDNN for products and convolutions, vector kernels for the rest.
class CpuBackend final : public HostBackend {
 public:
  CpuBackend(int threads, bool native_bf16)
      : HostBackend(threads), native_bf16_(native_bf16), onednn_(threads, *this) {}

  std::unique_ptr<ops::PreparedLinear> prepare_linear(std::span<const ops::LinearShard> shards,
                                                      DType dtype) override;
  std::unique_ptr<ops::PreparedConv2d> prepare_conv2d(const ops::Conv2dWeights& weights,
                                                      DType dtype) override;
  std::unique_ptr<ops::PreparedConv3d> prepare_conv3d(const ops::Conv3dWeights& weights,
                                                      DType dtype) override;

  void linear(const Tensor& x, const ops::PreparedLinear& weights,
              const ops::LinearEpilogue& epilogue, const Tensor& y) override;
  void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                  const Tensor& y) override;
  void layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           std::optional<float> /*e4m3_scale*/, const Tensor& y) override;
  void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) override;
  void group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  ops::Activation activation, const Tensor& y) override;
  void channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                    const Tensor& y) override;
  void norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope, float eps,
                       const ops::AttentionOperands& out) override;
  void attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                 const Tensor& y) override;
  void conv2d(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
              const Tensor& y) override {
    convolve(x, weights, residual, y);
  }
  void conv3d(const Tensor& x, const ops::PreparedConv3d& weights, const Tensor& residual,
              const Tensor& y) override {
    convolve(x, weights, residual, y);
  }
  void upsample_nearest2x(const Tensor& x, const Tensor& y) override;
  void embedding(const Tensor& table, const Tensor& ids, const Tensor& y) override;
  void activate(const Tensor& x, ops::Activation activation, const Tensor& y) override;
  void gated_activation(const Tensor& x, ops::Activation activation,
                        std::optional<float> e4m3_scale, const Tensor& y) override;
  void add(const Tensor& a, const Tensor& b, const Tensor& y) override;
  void add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) override;
  void affine(const Tensor& x, float factor, float offset, const Tensor& y) override;

 private:
  /// Products of this dtype are computed on widened copies, by float32 weights.
  bool widens(DType dtype) const { return dtype == DType::kBF16 && !native_bf16_; }
  Tensor widened(const Tensor& tensor);
  Tensor rounded(const Tensor& host) { return host.defined() ? upload(host, DType::kBF16) : host; }

  /// Of images or videos.
  template <typename Weights>
  auto prepare_convolution(const Weights& weights, DType dtype);
  template <typename Prepared>
  void convolve(const Tensor& x, const Prepared& weights, const Tensor& residual, const Tensor& y);
  void activate_into(ActivateArgs args);
  void axpby_into(const AxpbyArgs& args, std::int64_t count);

  bool native_bf16_;
  OneDnn onednn_;
  LinearKernels linear_{onednn_, *this, native_bf16_};
  ConvolutionKernels convolution_{onednn_, *this};
};

Tensor CpuBackend::widened(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  Tensor wide = Tensor::empty(tensor.shape(), DType::kF32, *this);
  copy(tensor, wide);
  return wide;
}

std::unique_ptr<ops::PreparedLinear> CpuBackend::prepare_linear(
    std::span<const ops::LinearShard> shards, DType dtype) {
  return linear_.prepare(shards, widens(dtype) ? DType::kF32 : dtype, dtype);
}

template <typename Weights>
auto CpuBackend::prepare_convolution(const Weights& weights, DType dtype) {
  if (!widens(dtype)) return convolution_.prepare(weights, dtype);
  Weights wide = weights;
  wide.weight = rounded(weights.weight);
  wide.bias = rounded(weights.bias);
  return convolution_.prepare(wide, DType::kF32);
}

std::unique_ptr<ops::PreparedConv2d> CpuBackend::prepare_conv2d(const ops::Conv2dWeights& weights,
                                                                DType dtype) {
  return prepare_convolution(weights, dtype);
}

std::unique_ptr<ops::PreparedConv3d> CpuBackend::prepare_conv3d(const ops::Conv3dWeights& weights,
                                                                DType dtype) {
  return prepare_convolution(weights, dtype);
}

void CpuBackend::linear(const Tensor& x, const ops::PreparedLinear& weights,
                        const ops::LinearEpilogue& epilogue, const Tensor& y) {
  if (!widens(x.dtype())) return linear_.run(x, weights, epilogue, y);
  const Tensor wide = Tensor::empty(y.shape(), DType::kF32, *this);
  linear_.run(widened(x), weights,
              {epilogue.activation, widened(epilogue.gate), widened(epilogue.residual)}, wide);
  copy(wide, y);
}

template <typename Prepared>
void CpuBackend::convolve(const Tensor& x, const Prepared& weights, const Tensor& residual,
                          const Tensor& y) {
  if (!widens(x.dtype())) return convolution_.run(x, weights, residual, y);
  const Tensor wide = Tensor::empty(y.shape(), DType::kF32, *this);
  convolution_.run(widened(x), weights, widened(residual), wide);
  copy(wide, y);
}

void CpuBackend::layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                            const Tensor& y) {
  const RowView rows = row_view(x);
  const NormArgs args{rows,
                      row_view(y),
                      x.dtype(),
                      x.dtype(),
                      eps,
                      optional_rows(weight),
                      optional_rows(bias),
                      0,
                      std::max<std::int64_t>(1, rows.rows)};
  parallel_ranges(threads(), rows.rows, rows_per_thread(rows.cols),
                  [&](auto begin, auto end) { layer_norm_rows(args, begin, end); });
}

void CpuBackend::layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                     float eps, std::optional<float> /*e4m3_scale*/,
                                     const Tensor& y) {
  const RowView rows = row_view(x);
  const bool shared = shift.dim(0) == 1;  // by all samples
  const NormArgs args{rows,
                      row_view(y),
                      x.dtype(),
                      shift.dtype(),
                      eps,
                      row_view(scale),
                      row_view(shift),
                      1,
                      shared ? std::max<std::int64_t>(1, rows.rows) : x.dim(1)};
  parallel_ranges(threads(), rows.rows, rows_per_thread(rows.cols),
                  [&](auto begin, auto end) { layer_norm_rows(args, begin, end); });
}

void CpuBackend::rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  const RowView rows = row_view(x);
  const NormArgs args{rows,      row_view(y), x.dtype(),
                      x.dtype(), eps,         row_view(weight),
                      {},        0,           std::max<std::int64_t>(1, rows.rows)};
  parallel_ranges(threads(), rows.rows, rows_per_thread(rows.cols),
                  [&](auto begin, auto end) { rms_norm_rows(args, begin, end); });
}

void CpuBackend::channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                              const Tensor& y) {
  const RowView rows = row_view(x);
  ChannelNormArgs args;
  args.x = rows;
  args.y = row_view(y);
  args.dtype = x.dtype();
  args.weight = weight.raw();
  args.activation = activation;
  parallel_ranges(threads(), rows.rows, rows_per_thread(rows.cols),
                  [&](auto begin, auto end) { channel_norm_rows(args, begin, end); });
}

void CpuBackend::group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias,
                            float eps, ops::Activation activation, const Tensor& y) {
  const std::int64_t channels = x.dim(3);
  const std::int64_t pixels = x.dim(1) * x.dim(2);
  const std::int64_t width = channels / groups;
  const std::vector<float> gamma = to_floats(weight);
  const std::vector<float> beta = to_floats(bias);
  const auto group_count = static_cast<std::size_t>(groups);
  // The sums are split by the image's size alone: a picture must not depend on the thread count.
  constexpr std::int64_t kMaxParts = 64;
  const std::int64_t parts =
      std::clamp<std::int64_t>(pixels / rows_per_thread(channels), 1, kMaxParts);
  std::vector<float> mean(gamma.size());
  std::vector<float> scale(gamma.size());
  for (std::int64_t sample = 0; sample < x.dim(0); ++sample) {
    const auto offset = byte_count(sample * pixels * channels, x.dtype());
    const GroupNormArgs args{x.raw() + offset, y.raw() + offset, x.dtype(),
                             channels,         groups,           activation};
    std::vector<Moments> partial(static_cast<std::size_t>(parts) * group_count);
    parallel_for(threads(), parts, [&](std::int64_t part) {
      group_moments(args, pixels * part / parts, pixels * (part + 1) / parts,
                    partial.data() + part * groups);
    });
    for (std::size_t group = 0; group < group_count; ++group) {
      Moments total;
      for (std::size_t i = group; i < partial.size(); i += group_count) total.merge(partial[i]);
      const double factor = 1.0 / std::sqrt(total.m2 / total.count + eps);
      for (std::size_t c = 0; c < static_cast<std::size_t>(width); ++c) {
        const std::size_t channel = group * static_cast<std::size_t>(width) + c;
        mean[channel] = static_cast<float>(total.mean);
        scale[channel] = static_cast<float>(factor * gamma[channel]);
      }
    }
    parallel_ranges(threads(), pixels, rows_per_thread(channels), [&](auto begin, auto end) {
      group_norm_pixels(args, mean.data(), scale.data(), beta.data(), begin, end);
    });
  }
}

void CpuBackend::norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope,
                                 float eps, const ops::AttentionOperands& out) {
  const std::int64_t tokens = out.q.dim(1);
  const std::int64_t heads = out.q.dim(2);
  const std::int64_t head_dim = out.q.dim(3);
  std::int64_t first = 0;
  for (const ops::PackedQkv& stream : streams) {
    const RowView rows = row_view(stream.qkv);
    const auto offset = byte_count(first * heads * head_dim, out.q.dtype());
    const RopeArgs args{.qkv = rows,
                        .tokens = stream.qkv.dim(1),
                        .heads = heads,
                        .head_dim = head_dim,
                        .dtype = out.q.dtype(),
                        .q_norm = stream.q_norm.raw(),
                        .k_norm = stream.k_norm.raw(),
                        .norm_width = stream.norm_width(),
                        .cos = rope.cos.data<float>() + first * (head_dim / 2),
                        .sin = rope.sin.data<float>() + first * (head_dim / 2),
                        .eps = eps,
                        .q = out.q.raw() + offset,
                        .k = out.k.raw() + offset,
                        .v = out.v.raw() + offset,
                        .sample_stride = tokens * heads * head_dim};
    parallel_ranges(threads(), rows.rows, rows_per_thread(rows.cols),
                    [&](auto begin, auto end) { norm_rope_rows(args, begin, end); });
    first += stream.qkv.dim(1);
  }
}

void CpuBackend::attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                           const Tensor& y) {
  const auto view = [](const Tensor& t) {
    return HeadsView{t.raw(), t.strides()[0], t.strides()[1], t.strides()[2]};
  };
  const AttentionArgs args{.q = view(in.q),
                           .k = view(in.k),
                           .v = view(in.v),
                           .bias = options.bias.defined() ? options.bias.data<float>() : nullptr,
                           .y = y.raw(),
                           .dtype = in.q.dtype(),
                           .queries = in.q.dim(1),
                           .keys = in.k.dim(1),
                           .heads = in.q.dim(2),
                           .head_dim = in.q.dim(3),
                           .scale = options.scale,
                           .causal = options.causal};
  const std::int64_t heads = in.q.dim(0) * args.heads;
  // Heads that do not divide among the threads are cut into ranges of queries; each range packs
  // the keys again, which costs 1 / queries of its products.
  const std::int64_t cuts = heads % threads() == 0 ? 1 : threads();
  const std::int64_t scratch = (attention_scratch(args) + 15) / 16 * 16;
  const Tensor memory = Tensor::empty({threads(), scratch}, DType::kF32, *this);
  parallel_ranges(threads(), heads * cuts, 1, [&](std::int64_t begin, std::int64_t end) {
    float* own = memory.data<float>() + omp_get_thread_num() * scratch;
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t head = unit / cuts;
      const std::int64_t cut = unit % cuts;
      attention_head(args, head / args.heads, head % args.heads, args.queries * cut / cuts,
                     args.queries * (cut + 1) / cuts, own);
    }
  });
}

void CpuBackend::upsample_nearest2x(const Tensor& x, const Tensor& y) {
  const std::int64_t width = x.dim(2);
  const std::size_t pixel = byte_count(x.dim(3), x.dtype());
  const std::size_t row = pixel * 2 * static_cast<std::size_t>(width);
  parallel_ranges(threads(), x.dim(0) * x.dim(1), rows_per_thread(2 * width * x.dim(3)),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t line = begin; line < end; ++line) {
                      const std::byte* from = x.raw() + static_cast<std::size_t>(line) * row / 2;
                      std::byte* to = y.raw() + static_cast<std::size_t>(line) * row * 2;
                      for (std::int64_t i = 0; i < width; ++i, from += pixel) {
                        std::memcpy(to + static_cast<std::size_t>(2 * i) * pixel, from, pixel);
                        std::memcpy(to + static_cast<std::size_t>(2 * i + 1) * pixel, from, pixel);
                      }
                      std::memcpy(to + row, to, row);
                    }
                  });
}

void CpuBackend::embedding(const Tensor& table, const Tensor& ids, const Tensor& y) {
  check_ids(ids, table.dim(0));
  const auto* values = ids.data<std::int32_t>();
  for (std::int64_t i = 0; i < ids.elements(); ++i) {
    const Tensor row = table.slice(0, values[i], values[i] + 1);
    std::memcpy(y.raw() + byte_count(i * table.dim(1), y.dtype()), row.raw(), row.bytes());
  }
}

void CpuBackend::activate_into(ActivateArgs args) {
  parallel_ranges(threads(), args.y.rows, rows_per_thread(args.y.cols),
                  [&](auto begin, auto end) { activate_rows(args, begin, end); });
}

void CpuBackend::activate(const Tensor& x, ops::Activation activation, const Tensor& y) {
  activate_into({row_view(x), {}, row_view(y), x.dtype(), activation});
}

void CpuBackend::gated_activation(const Tensor& x, ops::Activation activation,
                                  std::optional<float> /*no codes here*/, const Tensor& y) {
  const std::int64_t width = y.dim(-1);
  activate_into({row_view(x.slice(-1, 0, width)), row_view(x.slice(-1, width, 2 * width)),
                 row_view(y), x.dtype(), activation});
}

void CpuBackend::axpby_into(const AxpbyArgs& args, std::int64_t count) {
  parallel_ranges(threads(), count, kGrain, [&](auto begin, auto end) { axpby(args, begin, end); });
}

void CpuBackend::add(const Tensor& a, const Tensor& b, const Tensor& y) {
  const std::int64_t period = b.elements();
  for (std::int64_t begin = 0; begin < a.elements(); begin += period) {
    const std::size_t offset = byte_count(begin, a.dtype());
    axpby_into({a.raw() + offset, b.raw(), y.raw() + offset, a.dtype()}, period);
  }
}

void CpuBackend::add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) {
  axpby_into({x.raw(), v.raw(), y.raw(), x.dtype(), 1, factor}, x.elements());
}

void CpuBackend::affine(const Tensor& x, float factor, float offset, const Tensor& y) {
  axpby_into({x.raw(), nullptr, y.raw(), x.dtype(), factor, 0, offset}, x.elements());
}

}  // namespace

DType product_dtype(DType activations) {
  return OneDnn::has_native_bf16() ? activations : DType::kF32;
}

std::unique_ptr<ops::Backend> make_cpu_backend(const CpuOptions& options) {
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  return std::make_unique<CpuBackend>(threads,
                                      options.allow_native_bf16 && OneDnn::has_native_bf16());
}

}  // namespace dither::cpu
