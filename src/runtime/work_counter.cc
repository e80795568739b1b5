#include "runtime/work_counter.h"

#include <optional>
#include <utility>

namespace dither {

namespace {

/// Counts what a recording does, also where its kernels are submitted without being called.
class CountedRecording final : public ops::Recording {
 public:
  CountedRecording(std::unique_ptr<ops::Recording> inner, std::int64_t& flops)
      : inner_(std::move(inner)), flops_(flops) {}

  void replay() override {
    const std::int64_t before = flops_;
    inner_->replay();
    if (!per_replay_) per_replay_ = flops_ - before;
    flops_ = before + *per_replay_;
  }

 private:
  std::unique_ptr<ops::Recording> inner_;
  std::int64_t& flops_;
  std::optional<std::int64_t> per_replay_;
};

/// Of tensors, absent ones too, and of prepared weights.
template <typename... Operands>
std::int64_t bytes_of(const Operands&... operands) {
  const auto one = [](const auto& operand) -> std::size_t {
    if constexpr (requires { operand.resident_bytes(); }) {
      return operand.resident_bytes();
    } else {
      return operand.defined() ? operand.bytes() : 0;
    }
  };
  return static_cast<std::int64_t>((one(operands) + ...));
}

std::int64_t bytes_of_heads(const ops::AttentionOperands& heads) {
  return bytes_of(heads.q, heads.k, heads.v, heads.v_scale);
}

Work product(const Tensor& x, const ops::PreparedLinear& weights) {
  return {.flops = 2 * x.elements() * weights.out_features(), .bytes = bytes_of(x, weights)};
}

}  // namespace

std::vector<ops::KernelRecord> WorkCounter::trace(const std::function<void()>& work) {
  struct Tracing {
    explicit Tracing(bool& on) : tracing(on) { tracing = true; }
    ~Tracing() { tracing = false; }
    Tracing(const Tracing&) = delete;
    Tracing& operator=(const Tracing&) = delete;
    bool& tracing;
  };
  traced_.clear();
  const Tracing on(tracing_);
  return ForwardingBackend::trace(work);
}

std::unique_ptr<ops::Recording> WorkCounter::record(std::function<void()> work) {
  return std::make_unique<CountedRecording>(inner().record(std::move(work)), flops_);
}

template <typename Run>
void WorkCounter::count(std::string_view operation, const Work& work, const Run& run) {
  flops_ += work.flops;
  if (!tracing_) return run();
  const ops::Region region(*this, operation);
  traced_[regions_.path()] += work;
  run();
}

void WorkCounter::copy(const Tensor& from, const Tensor& to) {
  count("copy", {.bytes = bytes_of(from, to)}, [&] { inner().copy(from, to); });
}

void WorkCounter::linear(const Tensor& x, const ops::PreparedLinear& weights,
                         const ops::LinearEpilogue& epilogue, const Tensor& y) {
  Work work = product(x, weights);
  work.bytes += bytes_of(epilogue.gate, epilogue.residual, epilogue.normalized, y);
  count("linear", work, [&] { inner().linear(x, weights, epilogue, y); });
}

void WorkCounter::project_heads(std::span<const ops::HeadProjection> streams, const ops::Rope& rope,
                                float eps, const ops::AttentionOperands& out) {
  Work work{.bytes = bytes_of(rope.cos, rope.sin) + bytes_of_heads(out)};
  for (const ops::HeadProjection& stream : streams) {
    work += product(stream.x, *stream.weights);
    if (stream.gated) work.bytes += bytes_of(stream.gated->out.tensor);
  }
  count("project_heads", work, [&] { inner().project_heads(streams, rope, eps, out); });
}

void WorkCounter::gated_linear(const Tensor& x, const ops::PreparedLinear& weights,
                               ops::Activation activation, std::optional<float> e4m3_scale,
                               const Tensor& y) {
  Work work = product(x, weights);
  work.bytes += bytes_of(y);
  count("gated_linear", work, [&] { inner().gated_linear(x, weights, activation, e4m3_scale, y); });
}

void WorkCounter::attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                            const Tensor& y) {
  count("attention",
        {.flops = 4 * in.q.elements() * in.k.dim(1),
         .bytes = bytes_of_heads(in) + bytes_of(options.bias, y)},
        [&] { inner().attention(in, options, y); });
}

void WorkCounter::conv2d(const Tensor& x, const ops::PreparedConv2d& weights,
                         const Tensor& residual, const Tensor& y) {
  count(
      "conv2d",
      {.flops = 2 * y.elements() * weights.kernel_h() * weights.kernel_w() * weights.in_channels(),
       .bytes = bytes_of(x, weights, residual, y)},
      [&] { inner().conv2d(x, weights, residual, y); });
}

void WorkCounter::conv3d(const Tensor& x, const ops::PreparedConv3d& weights,
                         const Tensor& residual, const Tensor& y) {
  count("conv3d",
        {.flops = 2 * y.elements() * weights.kernel_t() * weights.kernel_h() * weights.kernel_w() *
                  weights.in_channels(),
         .bytes = bytes_of(x, weights, residual, y)},
        [&] { inner().conv3d(x, weights, residual, y); });
}

void WorkCounter::layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                             const Tensor& y) {
  count("layer_norm", {.bytes = bytes_of(x, weight, bias, y)},
        [&] { inner().layer_norm(x, weight, bias, eps, y); });
}

void WorkCounter::layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                      float eps, std::optional<float> e4m3_scale, const Tensor& y) {
  count("layer_norm_modulate", {.bytes = bytes_of(x, shift, scale, y)},
        [&] { inner().layer_norm_modulate(x, shift, scale, eps, e4m3_scale, y); });
}

void WorkCounter::rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  count("rms_norm", {.bytes = bytes_of(x, weight, y)},
        [&] { inner().rms_norm(x, weight, eps, y); });
}

void WorkCounter::group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias,
                             float eps, ops::Activation activation, const Tensor& y) {
  count("group_norm", {.bytes = bytes_of(x, weight, bias, y)},
        [&] { inner().group_norm(x, groups, weight, bias, eps, activation, y); });
}

void WorkCounter::channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                               const Tensor& y) {
  count("channel_norm", {.bytes = bytes_of(x, weight, y)},
        [&] { inner().channel_norm(x, weight, activation, y); });
}

void WorkCounter::norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope,
                                  float eps, const ops::AttentionOperands& out) {
  Work work{.bytes = bytes_of(rope.cos, rope.sin) + bytes_of_heads(out)};
  for (const ops::PackedQkv& stream : streams) work.bytes += bytes_of(stream.qkv);
  count("norm_rope_heads", work, [&] { inner().norm_rope_heads(streams, rope, eps, out); });
}

void WorkCounter::upsample_nearest2x(const Tensor& x, const Tensor& y) {
  count("upsample_nearest2x", {.bytes = bytes_of(x, y)}, [&] { inner().upsample_nearest2x(x, y); });
}

void WorkCounter::to_pixels(const Tensor& x, const Tensor& y) {
  count("to_pixels", {.bytes = bytes_of(x, y)}, [&] { inner().to_pixels(x, y); });
}

void WorkCounter::embedding(const Tensor& table, const Tensor& ids, const Tensor& y) {
  // Of the table, the rows that are read.
  count("embedding", {.bytes = bytes_of(ids, y, y)}, [&] { inner().embedding(table, ids, y); });
}

void WorkCounter::activate(const Tensor& x, ops::Activation activation, const Tensor& y) {
  count("activate", {.bytes = bytes_of(x, y)}, [&] { inner().activate(x, activation, y); });
}

void WorkCounter::gated_activation(const Tensor& x, ops::Activation activation,
                                   std::optional<float> e4m3_scale, const Tensor& y) {
  count("gated_activation", {.bytes = bytes_of(x, y)},
        [&] { inner().gated_activation(x, activation, e4m3_scale, y); });
}

void WorkCounter::add(const Tensor& a, const Tensor& b, const Tensor& y) {
  count("add", {.bytes = bytes_of(a, b, y)}, [&] { inner().add(a, b, y); });
}

void WorkCounter::add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) {
  count("add_scaled", {.bytes = bytes_of(x, v, y)}, [&] { inner().add_scaled(x, v, factor, y); });
}

void WorkCounter::affine(const Tensor& x, float factor, float offset, const Tensor& y) {
  count("affine", {.bytes = bytes_of(x, y)}, [&] { inner().affine(x, factor, offset, y); });
}

}  // namespace dither
