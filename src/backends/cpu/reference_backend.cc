#include "backends/cpu/reference_backend.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/parallel.h"
#include "backends/cpu/scalar_math.h"
#include "backends/cpu/strided.h"
#include "ops/linear_group.h"
#include "quant/fp8.h"

namespace dither::cpu {
namespace {

using Floats = std::vector<float>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// The values that a kernel of this dtype sees, as float32.
Floats rounded_to(const Tensor& host, DType dtype, ops::Backend& backend) {
  return to_floats(backend.upload(host, dtype));
}

Floats code_values(const Tensor& host, ops::Backend& backend) {
  const Tensor codes = backend.upload(host, DType::kF8E4M3);
  const auto* first = reinterpret_cast<const std::uint8_t*>(codes.raw());
  Floats values(at(codes.elements()));
  quant::dequantize_e4m3({first, values.size()}, 1, values);
  return values;
}

/// x as the values of its E4M3 codes.
void quantize(Floats& x, float input_scale) {
  std::vector<std::uint8_t> codes(x.size());
  quant::quantize_activation_e4m3(x, input_scale, codes);
  quant::dequantize_e4m3(codes, 1, x);
}

struct ReferenceLinear final : ops::PreparedLinear {
  using PreparedLinear::PreparedLinear;
  std::size_t resident_bytes() const override {
    return (weight.size() + scales.size() + bias.size()) * sizeof(float);
  }
  Floats weight;  // [N, K]
  Floats scales;  // [N], or empty
  Floats bias;    // [N]
  std::optional<float> input_scale;
};

struct ReferenceConv2d final : ops::PreparedConv2d {
  using PreparedConv2d::PreparedConv2d;
  std::size_t resident_bytes() const override {
    return (weight.size() + bias.size()) * sizeof(float);
  }
  Floats weight;  // [C_out, C_in, kh, kw]
  Floats bias;    // [C_out]
};

struct ReferenceConv3d final : ops::PreparedConv3d {
  using PreparedConv3d::PreparedConv3d;
  std::size_t resident_bytes() const override {
    return (weight.size() + bias.size()) * sizeof(float);
  }
  Floats weight;  // [C_out, C_in, kt, kh, kw]
  Floats bias;    // [C_out]
};

double dot(const float* a, const float* b, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

struct Moments {
  double mean;
  double variance;
};

/// Two passes, so that a large mean cancels nothing.
Moments moments(const float* x, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(count);
  double squares = 0;
  for (std::int64_t i = 0; i < count; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return {mean, squares / static_cast<double>(count)};
}

double rsqrt_mean_square(const float* x, std::int64_t count, float eps) {
  return 1.0 / std::sqrt(dot(x, x, count) / static_cast<double>(count) + eps);
}

/// y[i] = f(i) over all elements of y in row-major order.
template <typename F>
void fill(const Tensor& y, const F& f) {
  Floats result(at(y.elements()));
  for (std::int64_t i = 0; i < y.elements(); ++i) result[at(i)] = static_cast<float>(f(i));
  from_floats(result, y);
}

}  // namespace

CpuReferenceBackend::CpuReferenceBackend() : HostBackend(omp_get_max_threads()) {}

std::unique_ptr<ops::PreparedLinear> CpuReferenceBackend::prepare_linear(
    std::span<const ops::LinearShard> shards, DType dtype) {
  const ops::LinearGroup group = ops::group_shards(shards);
  const bool fp8 = group.input_scale.has_value();
  auto prepared = std::make_unique<ReferenceLinear>(
      group.k, group.n,
      ops::precision_of(shards, group, DType::kF32, fp8 ? DType::kF8E4M3 : dtype,
                        fp8           ? "reference e4m3"
                        : group.codes ? "reference, e4m3 weights"
                                      : "reference"));
  prepared->scales = group.scales;
  prepared->input_scale = group.input_scale;
  for (const auto& shard : shards) {
    const Floats weight =
        group.codes ? code_values(shard.weight, *this) : rounded_to(shard.weight, dtype, *this);
    prepared->weight.insert(prepared->weight.end(), weight.begin(), weight.end());
    const Floats bias = shard.bias.defined() ? rounded_to(shard.bias, dtype, *this)
                                             : Floats(at(shard.weight.dim(0)));
    prepared->bias.insert(prepared->bias.end(), bias.begin(), bias.end());
  }
  return prepared;
}

std::unique_ptr<ops::PreparedConv2d> CpuReferenceBackend::prepare_conv2d(
    const ops::Conv2dWeights& weights, DType dtype) {
  auto prepared = std::make_unique<ReferenceConv2d>(weights);
  prepared->weight = rounded_to(weights.weight, dtype, *this);
  prepared->bias = weights.bias.defined() ? rounded_to(weights.bias, dtype, *this)
                                          : Floats(at(weights.weight.dim(0)));
  return prepared;
}

std::unique_ptr<ops::PreparedConv3d> CpuReferenceBackend::prepare_conv3d(
    const ops::Conv3dWeights& weights, DType dtype) {
  auto prepared = std::make_unique<ReferenceConv3d>(weights);
  prepared->weight = rounded_to(weights.weight, dtype, *this);
  prepared->bias = weights.bias.defined() ? rounded_to(weights.bias, dtype, *this)
                                          : Floats(at(weights.weight.dim(0)));
  return prepared;
}

void CpuReferenceBackend::linear(const Tensor& x, const ops::PreparedLinear& weights,
                                 const ops::LinearEpilogue& epilogue, const Tensor& y) {
  const auto& layer = prepared_here<ReferenceLinear>(weights, "linear");
  const std::int64_t n = layer.out_features();
  const std::int64_t k = layer.in_features();
  const std::int64_t rows = y.elements() / n;
  const std::int64_t rows_per_sample = epilogue.gate.defined() ? x.dim(1) : rows;
  Floats input = to_floats(x);
  if (layer.input_scale) quantize(input, *layer.input_scale);
  const Floats gate = epilogue.gate.defined() ? to_floats(epilogue.gate) : Floats{};
  const Floats residual = epilogue.residual.defined() ? to_floats(epilogue.residual) : Floats{};
  Floats result(at(rows * n));
  parallel_for(threads(), rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double value = dot(&input[at(i * k)], &layer.weight[at(j * k)], k);
      if (!layer.scales.empty()) value *= layer.scales[at(j)];
      value += layer.bias[at(j)];
      value = activation(epilogue.activation, value);
      if (!gate.empty()) value *= gate[at(i / rows_per_sample * n + j)];
      if (!residual.empty()) value += residual[at(i * n + j)];
      result[at(i * n + j)] = static_cast<float>(value);
    }
  });
  from_floats(result, y);
}

void CpuReferenceBackend::layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     float eps, const Tensor& y) {
  const Floats input = to_floats(x);
  const std::int64_t d = x.dim(-1);
  const Floats gamma = weight.defined() ? to_floats(weight) : Floats(at(d), 1.0F);
  const Floats beta = bias.defined() ? to_floats(bias) : Floats(at(d), 0.0F);
  Floats result(input.size());
  for (std::int64_t row = 0; row < x.elements() / d; ++row) {
    const auto [mean, variance] = moments(&input[at(row * d)], d);
    for (std::int64_t i = 0; i < d; ++i) {
      const double normed = (input[at(row * d + i)] - mean) / std::sqrt(variance + eps);
      result[at(row * d + i)] = static_cast<float>(normed * gamma[at(i)] + beta[at(i)]);
    }
  }
  from_floats(result, y);
}

void CpuReferenceBackend::layer_norm_modulate(const Tensor& x, const Tensor& shift,
                                              const Tensor& scale, float eps,
                                              std::optional<float> /*e4m3_scale*/,
                                              const Tensor& y) {
  const Floats input = to_floats(x);
  const Floats shifts = to_floats(shift);
  const Floats scales = to_floats(scale);
  const std::int64_t d = x.dim(2);
  Floats result(input.size());
  for (std::int64_t row = 0; row < x.dim(0) * x.dim(1); ++row) {
    const auto [mean, variance] = moments(&input[at(row * d)], d);
    const std::int64_t sample = shift.dim(0) == 1 ? 0 : row / x.dim(1);
    for (std::int64_t i = 0; i < d; ++i) {
      const double normed = (input[at(row * d + i)] - mean) / std::sqrt(variance + eps);
      result[at(row * d + i)] = static_cast<float>((1.0 + scales[at(sample * d + i)]) * normed +
                                                   shifts[at(sample * d + i)]);
    }
  }
  from_floats(result, y);
}

void CpuReferenceBackend::rms_norm(const Tensor& x, const Tensor& weight, float eps,
                                   const Tensor& y) {
  const Floats input = to_floats(x);
  const Floats gamma = to_floats(weight);
  const std::int64_t d = x.dim(-1);
  Floats result(input.size());
  for (std::int64_t row = 0; row < x.elements() / d; ++row) {
    const double factor = rsqrt_mean_square(&input[at(row * d)], d, eps);
    for (std::int64_t i = 0; i < d; ++i) {
      result[at(row * d + i)] = static_cast<float>(input[at(row * d + i)] * factor * gamma[at(i)]);
    }
  }
  from_floats(result, y);
}

void CpuReferenceBackend::group_norm(const Tensor& x, int groups, const Tensor& weight,
                                     const Tensor& bias, float eps, ops::Activation kind,
                                     const Tensor& y) {
  const Floats input = to_floats(x);
  const Floats gamma = to_floats(weight);
  const Floats beta = to_floats(bias);
  const std::int64_t channels = x.dim(3);
  const std::int64_t pixels = x.dim(1) * x.dim(2);
  const std::int64_t width = channels / groups;
  Floats result(input.size());
  Floats members(at(pixels * width));
  for (std::int64_t unit = 0; unit < x.dim(0) * groups; ++unit) {
    const std::int64_t first = unit % groups * width;
    const auto index = [&](std::int64_t member) {
      return at((unit / groups * pixels + member / width) * channels + first + member % width);
    };
    for (std::int64_t i = 0; i < pixels * width; ++i) members[at(i)] = input[index(i)];
    const auto [mean, variance] = moments(members.data(), pixels * width);
    for (std::int64_t i = 0; i < pixels * width; ++i) {
      const double normed = (members[at(i)] - mean) / std::sqrt(variance + eps);
      const std::size_t channel = at(first + i % width);
      result[index(i)] =
          static_cast<float>(activation(kind, normed * gamma[channel] + beta[channel]));
    }
  }
  from_floats(result, y);
}

void CpuReferenceBackend::channel_norm(const Tensor& x, const Tensor& weight, ops::Activation kind,
                                       const Tensor& y) {
  const Floats input = to_floats(x);
  const Floats gamma = to_floats(weight);
  const std::int64_t d = x.dim(-1);
  Floats result(input.size());
  for (std::int64_t row = 0; row < x.elements() / d; ++row) {
    const float* values = &input[at(row * d)];
    const double norm = std::max(std::sqrt(dot(values, values, d)), 1e-12);
    for (std::int64_t i = 0; i < d; ++i) {
      const double normed = values[i] / norm * std::sqrt(static_cast<double>(d)) * gamma[at(i)];
      result[at(row * d + i)] = static_cast<float>(activation(kind, normed));
    }
  }
  from_floats(result, y);
}

void CpuReferenceBackend::norm_rope_heads(std::span<const ops::PackedQkv> streams,
                                          const ops::Rope& rope, float eps,
                                          const ops::AttentionOperands& out) {
  const std::int64_t heads = out.q.dim(2);
  const std::int64_t d = out.q.dim(3);
  const Floats cosines = to_floats(rope.cos);
  const Floats sines = to_floats(rope.sin);
  // All channels of a token that are normalised together, one head or all of them.
  const auto rotated_norm = [&](const float* x, const Floats& weight, std::int64_t token,
                                float* y) {
    const auto width = static_cast<std::int64_t>(weight.size());
    const double factor = rsqrt_mean_square(x, width, eps);
    for (std::int64_t i = 0; i < width; i += 2) {
      const double a = x[i] * factor * weight[at(i)];
      const double b = x[i + 1] * factor * weight[at(i + 1)];
      const double c = cosines[at(token * (d / 2) + i % d / 2)];
      const double s = sines[at(token * (d / 2) + i % d / 2)];
      y[i] = static_cast<float>(a * c - b * s);
      y[i + 1] = static_cast<float>(b * c + a * s);
    }
  };
  std::int64_t first = 0;
  for (const ops::PackedQkv& stream : streams) {
    const std::int64_t length = stream.qkv.dim(1);
    const Floats packed = to_floats(stream.qkv);
    const Floats q_norm = to_floats(stream.q_norm);
    const Floats k_norm = to_floats(stream.k_norm);
    const std::size_t size = at(out.q.dim(0) * length * heads * d);
    Floats q(size);
    Floats k(size);
    Floats v(size);
    for (std::int64_t row = 0; row < out.q.dim(0) * length; ++row) {
      for (std::int64_t i = 0; i < heads * d; i += stream.norm_width()) {
        const float* source = &packed[at(row * 3 * heads * d + i)];
        const std::size_t target = at(row * heads * d + i);
        rotated_norm(source, q_norm, first + row % length, &q[target]);
        rotated_norm(source + heads * d, k_norm, first + row % length, &k[target]);
        std::copy_n(source + 2 * heads * d, stream.norm_width(), &v[target]);
      }
    }
    from_floats(q, out.q.slice(1, first, first + length));
    from_floats(k, out.k.slice(1, first, first + length));
    from_floats(v, out.v.slice(1, first, first + length));
    first += length;
  }
}

void CpuReferenceBackend::attention(const ops::AttentionOperands& in,
                                    const ops::AttentionOptions& options, const Tensor& y) {
  const std::int64_t queries = in.q.dim(1);
  const std::int64_t keys = in.k.dim(1);
  const std::int64_t heads = in.q.dim(2);
  const std::int64_t d = in.q.dim(3);
  const Floats q = to_floats(in.q);
  const Floats k = to_floats(in.k);
  const Floats v = to_floats(in.v);
  const Floats bias = options.bias.defined() ? to_floats(options.bias) : Floats{};
  Floats result(q.size());
  parallel_for(threads(), in.q.dim(0) * heads * queries, [&](std::int64_t unit) {
    const std::int64_t sample = unit / (heads * queries);
    const std::int64_t head = unit / queries % heads;
    const std::int64_t i = unit % queries;
    const std::int64_t visible = options.causal ? std::min(keys, i + 1) : keys;
    const auto row = [&](std::int64_t length, std::int64_t token) {
      return at(((sample * length + token) * heads + head) * d);
    };
    std::vector<double> p(at(visible));
    double largest = -INFINITY;
    for (std::int64_t j = 0; j < visible; ++j) {
      p[at(j)] = options.scale * dot(&q[row(queries, i)], &k[row(keys, j)], d);
      if (!bias.empty()) p[at(j)] += bias[at((head * queries + i) * keys + j)];
      largest = std::max(largest, p[at(j)]);
    }
    double sum = 0;
    for (double& value : p) sum += value = std::exp(value - largest);
    for (std::int64_t c = 0; c < d; ++c) {
      double value = 0;
      for (std::int64_t j = 0; j < visible; ++j) value += p[at(j)] * v[row(keys, j) + at(c)];
      result[row(queries, i) + at(c)] = static_cast<float>(value / sum);
    }
  });
  from_floats(result, y);
}

void CpuReferenceBackend::conv2d(const Tensor& x, const ops::PreparedConv2d& weights,
                                 const Tensor& residual, const Tensor& y) {
  const auto& layer = prepared_here<ReferenceConv2d>(weights, "conv2d");
  const std::int64_t c_in = layer.in_channels();
  const std::int64_t c_out = layer.out_channels();
  const std::int64_t kh = layer.kernel_h();
  const std::int64_t kw = layer.kernel_w();
  const std::int64_t height = x.dim(1);
  const std::int64_t width = x.dim(2);
  const std::int64_t out_w = y.dim(2);
  const Floats input = to_floats(x);
  const Floats added = residual.defined() ? to_floats(residual) : Floats{};
  Floats result(at(y.elements()));
  parallel_for(threads(), y.dim(0) * y.dim(1) * out_w, [&](std::int64_t pixel) {
    const std::int64_t sample = pixel / (y.dim(1) * out_w);
    const std::int64_t top = pixel / out_w % y.dim(1) * layer.stride() - layer.padding()[0];
    const std::int64_t left = pixel % out_w * layer.stride() - layer.padding()[1];
    for (std::int64_t o = 0; o < c_out; ++o) {
      double sum = layer.bias[at(o)];
      for (std::int64_t tap = 0; tap < kh * kw; ++tap) {
        const std::int64_t row = top + tap / kw;
        const std::int64_t column = left + tap % kw;
        if (row < 0 || row >= height || column < 0 || column >= width) continue;
        const float* pixel_in = &input[at(((sample * height + row) * width + column) * c_in)];
        for (std::int64_t c = 0; c < c_in; ++c) {
          sum +=
              static_cast<double>(pixel_in[c]) * layer.weight[at((o * c_in + c) * kh * kw + tap)];
        }
      }
      if (!added.empty()) sum += added[at(pixel * c_out + o)];
      result[at(pixel * c_out + o)] = static_cast<float>(sum);
    }
  });
  from_floats(result, y);
}

void CpuReferenceBackend::conv3d(const Tensor& x, const ops::PreparedConv3d& weights,
                                 const Tensor& residual, const Tensor& y) {
  const auto& layer = prepared_here<ReferenceConv3d>(weights, "conv3d");
  const std::int64_t c_in = layer.in_channels();
  const std::int64_t c_out = layer.out_channels();
  const std::int64_t taps = layer.kernel_t() * layer.kernel_h() * layer.kernel_w();
  const std::int64_t height = x.dim(2);
  const std::int64_t width = x.dim(3);
  const Floats input = to_floats(x);
  const Floats added = residual.defined() ? to_floats(residual) : Floats{};
  Floats result(at(y.elements()));
  parallel_for(threads(), y.elements() / c_out, [&](std::int64_t pixel) {
    const std::int64_t left = pixel % y.dim(3) - layer.padding()[1];
    const std::int64_t top = pixel / y.dim(3) % y.dim(2) - layer.padding()[0];
    const std::int64_t frame = pixel / y.dim(3) / y.dim(2) % y.dim(1) * layer.stride_t() +
                               pixel / y.dim(3) / y.dim(2) / y.dim(1) * x.dim(1);
    for (std::int64_t o = 0; o < c_out; ++o) {
      double sum = layer.bias[at(o)];
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        const std::int64_t column = left + tap % layer.kernel_w();
        const std::int64_t row = top + tap / layer.kernel_w() % layer.kernel_h();
        const std::int64_t earlier = frame + tap / layer.kernel_w() / layer.kernel_h();
        if (row < 0 || row >= height || column < 0 || column >= width) continue;
        const float* in = &input[at(((earlier * height + row) * width + column) * c_in)];
        for (std::int64_t c = 0; c < c_in; ++c) {
          sum += static_cast<double>(in[c]) * layer.weight[at((o * c_in + c) * taps + tap)];
        }
      }
      if (!added.empty()) sum += added[at(pixel * c_out + o)];
      result[at(pixel * c_out + o)] = static_cast<float>(sum);
    }
  });
  from_floats(result, y);
}

void CpuReferenceBackend::upsample_nearest2x(const Tensor& x, const Tensor& y) {
  const Floats input = to_floats(x);
  const std::int64_t channels = y.dim(3);
  fill(y, [&](std::int64_t i) {
    const std::int64_t column = i / channels % y.dim(2);
    const std::int64_t row = i / channels / y.dim(2) % y.dim(1);
    const std::int64_t sample = i / channels / y.dim(2) / y.dim(1);
    return input[at(((sample * x.dim(1) + row / 2) * x.dim(2) + column / 2) * channels +
                    i % channels)];
  });
}

void CpuReferenceBackend::embedding(const Tensor& table, const Tensor& ids, const Tensor& y) {
  check_ids(ids, table.dim(0));
  const Floats rows = to_floats(table);
  const std::int64_t d = table.dim(1);
  fill(y, [&](std::int64_t i) { return rows[at(ids.data<std::int32_t>()[i / d] * d + i % d)]; });
}

void CpuReferenceBackend::activate(const Tensor& x, ops::Activation kind, const Tensor& y) {
  const Floats input = to_floats(x);
  fill(y, [&](std::int64_t i) { return activation(kind, input[at(i)]); });
}

void CpuReferenceBackend::gated_activation(const Tensor& x, ops::Activation kind,
                                           std::optional<float> /*no codes here*/,
                                           const Tensor& y) {
  const Floats input = to_floats(x);
  const std::int64_t f = y.dim(-1);
  fill(y, [&](std::int64_t i) {
    const std::int64_t a = i / f * 2 * f + i % f;
    return activation(kind, input[at(a)]) * input[at(a + f)];
  });
}

void CpuReferenceBackend::add(const Tensor& a, const Tensor& b, const Tensor& y) {
  const Floats left = to_floats(a);
  const Floats right = to_floats(b);
  fill(y, [&](std::int64_t i) { return left[at(i)] + right[at(i) % right.size()]; });
}

void CpuReferenceBackend::add_scaled(const Tensor& x, const Tensor& v, float factor,
                                     const Tensor& y) {
  const Floats base = to_floats(x);
  const Floats direction = to_floats(v);
  fill(y, [&](std::int64_t i) {
    return base[at(i)] + static_cast<double>(factor) * direction[at(i)];
  });
}

void CpuReferenceBackend::affine(const Tensor& x, float factor, float offset, const Tensor& y) {
  const Floats input = to_floats(x);
  fill(y, [&](std::int64_t i) { return static_cast<double>(factor) * input[at(i)] + offset; });
}

std::unique_ptr<ops::Backend> make_cpu_reference_backend() {
  return std::make_unique<CpuReferenceBackend>();
}

}  // namespace dither::cpu
