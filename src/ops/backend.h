#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/types.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

namespace dither::ops {

/// Device memory that a backend holds for tensors and prepared weights.
struct MemoryStats {
  std::size_t allocated_bytes = 0;  ///< in live tensors and weights now
  std::size_t peak_bytes = 0;       ///< the most that was live at once, a recording's own included
  std::size_t reserved_bytes = 0;   ///< taken from the system: live plus cached for reuse
};

/// What a backend's kernels can do beyond the least that every backend does.
struct BackendTraits {
  /// linear() and attention() write to any row view, not only to contiguous tensors.
  bool strided_results = false;
  /// norm_rope_heads() may write q and k over the projections that it reads.
  bool rotates_in_place = false;
  /// linear(), layer_norm_modulate(), attention() and gated_activation() write E4M3 codes, linear()
  /// reads them.
  bool e4m3_activations = false;
  /// linear() takes LinearEpilogue::norm.
  bool norms_linear_results = false;
  /// project_heads() and gated_linear() are kernels of their own.
  bool fuses_projections = false;
  /// norm_rope_heads() writes E4M3 codes where its results are of that dtype, attention() reads
  /// them.
  bool e4m3_attention = false;
};

/// One kernel that ran on a device.
struct KernelRecord {
  std::string name;  ///< demangled
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
  std::string region;  ///< RegionStack::path() where it was launched
};

/// Work that can be done again and again: Backend::record().
class Recording {
 public:
  virtual ~Recording() = default;
  Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  /// Submits the work once more.
  virtual void replay() = 0;
};

/// Linear layers whose weights wait in host memory in their execution layout and come to the device
/// part by part: there is room for two, while one is used the next is on its way. A weight has one
/// address on the device, whether it is there or not: recordings stay valid, and every product
/// gives the bits that it would give with all weights resident.
class StreamedWeights {
 public:
  virtual ~StreamedWeights() = default;
  StreamedWeights() = default;
  StreamedWeights(const StreamedWeights&) = delete;
  StreamedWeights& operator=(const StreamedWeights&) = delete;

  /// Runs `prepare`; the linear layers that it prepares are the next part and live as long as this
  /// object is used. Throws what `prepare` throws.
  virtual void add(const std::function<void()>& prepare) = 0;

  /// A pass uses every part once, in their order: begin(), then next() per part. Work submitted
  /// after next() may use that part, but none before it. A pass that was cut short by an exception
  /// is followed by begin(), too.
  virtual void begin() = 0;
  virtual void next() = 0;
};

/// Models whose linear layers' weights wait in host memory and take turns on the device, in memory
/// for the largest of them, which is taken while one of them works. As with StreamedWeights, an
/// address is a weight's for good, and no bit of a result changes.
class WeightTurns {
 public:
  virtual ~WeightTurns() = default;
  WeightTurns() = default;
  WeightTurns(const WeightTurns&) = delete;
  WeightTurns& operator=(const WeightTurns&) = delete;

  /// Runs `prepare`; the linear layers that it prepares, less those of calls of add() inside of it,
  /// are a part of model `turn`, 0 or more, and live as long as this object is used. Returns the
  /// part's number. Throws what `prepare` throws.
  virtual std::size_t add(int turn, const std::function<void()>& prepare) = 0;

  /// The model comes, what has not come yet: work submitted from now on may use its weights, and no
  /// others.
  virtual void come(int turn) = 0;
  /// From now on, until come() or leave(), each part is used at most `uses` times, of which used()
  /// tells: the weights of the next turn come to the places of parts that are not needed any more,
  /// while the others work.
  virtual void expect_last_uses(int uses) = 0;
  /// Work that uses the part has been submitted.
  virtual void used(std::size_t part) = 0;
  /// Nobody's weights are needed until come(); their memory is free.
  virtual void leave() = 0;
};

/// One of several models in a WeightTurns.
struct ModelTurn {
  WeightTurns* turns = nullptr;  ///< null: the model is there all the time
  int turn = 0;
};

/// A device with its kernels. Models never call it: they call the functions of ops/ops.h, which
/// check every shape and allocate the result, so a kernel can rely on
///  - operands on this backend, activations of one dtype (kF32 or kBF16), weights of norms,
///    modulations and tables of rope in a dtype stated at the op;
///  - x and y being row views (tensor.h: unit stride in the last dimension, leading dimensions
///    that collapse) unless the op says otherwise; y contiguous and not aliasing an input unless
///    traits() or the op say that it may be otherwise.
/// Arithmetic is float32 inside, with one rounding to y's dtype at the end. The formulas and
/// shapes stand at the functions of ops/ops.h.
///
/// A backend is not thread-safe: it is one stream of work. It holds no global state; two backends
/// can live in one process.
class Backend : public Device {
 public:
  /// At most one probe watches the linear layers; null removes it. The probe outlives its use.
  void set_linear_probe(LinearProbe* probe) { linear_probe_ = probe; }
  LinearProbe* linear_probe() const { return linear_probe_; }

  /// What a report calls the device: its model, where a backend knows it.
  virtual std::string description() const { return std::string(name()); }
  virtual BackendTraits traits() const { return {}; }
  /// How this backend's attention reads E4M3 codes of v, `heads` [B, L, H, D], D a multiple of 16.
  /// Needs BackendTraits::e4m3_attention.
  virtual E4m3Values e4m3_values(const Shape& heads) const;

  /// Work to be repeated: `work` calls ops on tensors that stay where they are and leaves its
  /// results in such tensors. What it does must not depend on the contents of tensors or on
  /// anything else that changes between replays: a backend may run the function only for the first
  /// ones and then submit the same kernels at once. Nothing runs before the first replay().
  virtual std::unique_ptr<Recording> record(std::function<void()> work);

  /// What follows, until end_region(), belongs to a part of the work: use Region (ops/region.h).
  virtual void begin_region(std::string_view /*name*/) {}
  virtual void end_region() noexcept {}

  /// Does `work` and lists the kernels that ran meanwhile, in their order, each with its region;
  /// nothing on a backend without a device of its own. Recordings call their work, so that every
  /// kernel is launched inside its region: the same kernels as a replay, further apart. Throws
  /// kUnsupported where the profiling library is missing.
  virtual std::vector<KernelRecord> trace(const std::function<void()>& work) {
    work();
    return {};
  }

  // Memory and data movement.

  /// A host tensor on this device, converted to `dtype`. May share the host bytes when nothing
  /// has to change.
  virtual Tensor upload(const Tensor& host, DType dtype) = 0;
  /// A contiguous host copy (a view where device memory is host memory), same dtype.
  virtual Tensor download(const Tensor& tensor) = 0;
  /// Element-wise copy between two tensors of equal shape, any strides, converting the dtype.
  /// `from` may be a contiguous tensor in host memory.
  virtual void copy(const Tensor& from, const Tensor& to) = 0;
  /// Waits for submitted work; makes host clocks meaningful.
  virtual void synchronize() = 0;
  /// What this backend's own allocations amount to; bytes shared by upload() are not counted.
  virtual MemoryStats memory() const = 0;
  /// From now on memory().peak_bytes is the most that was live since.
  virtual void reset_peak_memory() = 0;
  /// How much more this backend can take, by its limit or what the device has free; nothing where
  /// it works in host memory.
  virtual std::optional<std::size_t> available_memory() const { return std::nullopt; }

  // Weights in execution layout, for activations of `dtype`. The host tensors may be released
  // afterwards.

  virtual std::unique_ptr<PreparedLinear> prepare_linear(std::span<const LinearShard> shards,
                                                         DType dtype) = 0;
  virtual std::unique_ptr<PreparedConv2d> prepare_conv2d(const Conv2dWeights& weights,
                                                         DType dtype) = 0;
  /// How many channels a pixel of conv3d()'s input had best have room for, where the kernels want
  /// zeros behind its `channels`.
  virtual std::int64_t conv3d_row_channels(std::int64_t channels, DType /*dtype*/) const {
    return channels;
  }
  virtual std::unique_ptr<PreparedConv3d> prepare_conv3d(const Conv3dWeights& weights,
                                                         DType dtype) = 0;
  /// Weights that are to wait in host memory; null where that is where all weights are.
  virtual std::unique_ptr<StreamedWeights> stream_weights() { return nullptr; }
  virtual std::unique_ptr<WeightTurns> take_turns() { return nullptr; }

  // Kernels.

  virtual void linear(const Tensor& x, const PreparedLinear& weights,
                      const LinearEpilogue& epilogue, const Tensor& y) = 0;
  virtual void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                          const Tensor& y) = 0;
  virtual void layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                   float eps, std::optional<float> e4m3_scale, const Tensor& y) = 0;
  virtual void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) = 0;
  virtual void group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias,
                          float eps, Activation activation, const Tensor& y) = 0;
  virtual void channel_norm(const Tensor& x, const Tensor& weight, Activation activation,
                            const Tensor& y) = 0;
  virtual void norm_rope_heads(std::span<const PackedQkv> streams, const Rope& rope, float eps,
                               const AttentionOperands& out) = 0;
  /// The next two are called where BackendTraits::fuses_projections, with no probe in place.
  virtual void project_heads(std::span<const HeadProjection> streams, const Rope& rope, float eps,
                             const AttentionOperands& out);
  virtual void gated_linear(const Tensor& x, const PreparedLinear& weights, Activation activation,
                            std::optional<float> e4m3_scale, const Tensor& y);
  virtual void attention(const AttentionOperands& in, const AttentionOptions& options,
                         const Tensor& y) = 0;
  virtual void conv2d(const Tensor& x, const PreparedConv2d& weights, const Tensor& residual,
                      const Tensor& y) = 0;
  virtual void conv3d(const Tensor& x, const PreparedConv3d& weights, const Tensor& residual,
                      const Tensor& y) = 0;
  virtual void upsample_nearest2x(const Tensor& x, const Tensor& y) = 0;
  virtual void to_pixels(const Tensor& x, const Tensor& y) = 0;
  virtual void embedding(const Tensor& table, const Tensor& ids, const Tensor& y) = 0;
  virtual void activate(const Tensor& x, Activation activation, const Tensor& y) = 0;
  virtual void gated_activation(const Tensor& x, Activation activation,
                                std::optional<float> e4m3_scale, const Tensor& y) = 0;
  virtual void add(const Tensor& a, const Tensor& b, const Tensor& y) = 0;
  virtual void add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) = 0;
  virtual void affine(const Tensor& x, float factor, float offset, const Tensor& y) = 0;

 private:
  LinearProbe* linear_probe_ = nullptr;
};

}  // namespace dither::ops
