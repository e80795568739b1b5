#include "backends/cuda/cuda_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/attention.h"
#include "backends/cuda/convolution.h"
#include "backends/cuda/cuda_check.h"
#include "backends/cuda/cudnn_attention.h"
#include "backends/cuda/cudnn_conv.h"
#include "backends/cuda/cudnn_handle.h"
#include "backends/cuda/device_constants.h"
#include "backends/cuda/device_memory.h"
#include "backends/cuda/kernels/channel_norm.h"
#include "backends/cuda/kernels/copy.h"
#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/kernels/group_norm.h"
#include "backends/cuda/kernels/image.h"
#include "backends/cuda/kernels/norm.h"
#include "backends/cuda/linear.h"
#include "backends/cuda/modulation.h"
#include "backends/cuda/pinned_stream.h"
#include "backends/cuda/pinned_turns.h"
#include "backends/cuda/projections.h"
#include "backends/cuda/recording.h"
#include "backends/cuda/staging.h"
#include "backends/cuda/traced_regions.h"
#include "backends/cuda/weight_memory.h"

namespace dither {
namespace cuda {
namespace {

/// Scratch memory that library calls share: each is done with it when the next begins on the
/// stream. Outgrown buffers stay, because graphs that were captured with them do.
class Scratch {
 public:
  Scratch(DeviceMemory& memory, Device& device) : memory_(memory), device_(device) {}

  void* operator()(std::size_t bytes) {
    if (buffers_.empty() || buffers_.back()->bytes() < bytes) {
      const auto pool = memory_.use(nullptr);
      buffers_.push_back(memory_.allocate(bytes, &device_));
      memory_.use(pool);
    }
    return buffers_.back()->data();
  }

 private:
  DeviceMemory& memory_;
  Device& device_;
  std::vector<std::shared_ptr<Storage>> buffers_;
};

/// cuBLASLt for products, cuDNN for attention and convolutions, own kernels for the rest, and for
/// products whose results it never writes; one
/// stream, no global state.
class CudaBackend final : public ops::Backend {
 public:
  explicit CudaBackend(std::optional<std::size_t> memory_limit) : memory_(memory_limit) {}

  std::string_view name() const override { return "cuda"; }
  std::string description() const override;
  ops::BackendTraits traits() const override {
    return {.strided_results = true,
            .rotates_in_place = true,
            .e4m3_activations = true,
            .norms_linear_results = true,
            .fuses_projections = true,
            .e4m3_attention = true};
  }
  std::unique_ptr<ops::Recording> record(std::function<void()> work) override {
    return std::make_unique<GraphRecording>(std::move(work), memory_, stream(), regions_.tracing());
  }
  void begin_region(std::string_view name) override { regions_.begin(name); }
  void end_region() noexcept override { regions_.end(); }
  std::vector<ops::KernelRecord> trace(const std::function<void()>& work) override {
    synchronize();
    return regions_.trace([&] {
      work();
      synchronize();
    });
  }
  cudaStream_t stream() const { return stream_.get(); }

  std::shared_ptr<Storage> allocate(std::size_t bytes) override {
    return memory_.allocate(bytes, this);
  }
  Tensor upload(const Tensor& host, DType dtype) override;
  Tensor download(const Tensor& tensor) override;
  void copy(const Tensor& from, const Tensor& to) override;
  void synchronize() override { check(cudaStreamSynchronize(stream()), "wait for the device"); }
  ops::MemoryStats memory() const override { return memory_.stats(); }
  void reset_peak_memory() override { memory_.reset_peak(); }
  std::optional<std::size_t> available_memory() const override { return memory_.available(); }

  std::unique_ptr<ops::PreparedLinear> prepare_linear(std::span<const ops::LinearShard> shards,
                                                      DType dtype) override {
    auto prepared = linear_.prepare(shards, dtype);
    if (prepared_ != nullptr) prepared_->push_back(prepared.get());
    return prepared;
  }
  std::unique_ptr<ops::StreamedWeights> stream_weights() override {
    return std::make_unique<PinnedStream>(*this, memory_, stream(), layer_collector());
  }
  std::unique_ptr<ops::WeightTurns> take_turns() override {
    return std::make_unique<PinnedTurns>(*this, memory_, stream(), layer_collector());
  }
  std::unique_ptr<ops::PreparedConv2d> prepare_conv2d(const ops::Conv2dWeights& weights,
                                                      DType dtype) override {
    return convolutions_.prepare(weights, dtype);
  }
  std::int64_t conv3d_row_channels(std::int64_t channels, DType dtype) const override {
    return ConvolutionKernels::row_channels(channels, dtype);
  }
  std::unique_ptr<ops::PreparedConv3d> prepare_conv3d(const ops::Conv3dWeights& weights,
                                                      DType dtype) override {
    return convolutions_.prepare(weights, dtype);
  }

  void linear(const Tensor& x, const ops::PreparedLinear& weights,
              const ops::LinearEpilogue& epilogue, const Tensor& y) override {
    linear_.run(x, weights, epilogue, y);
  }
  void layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                  const Tensor& y) override;
  void layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale, float eps,
                           std::optional<float> e4m3_scale, const Tensor& y) override;
  void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) override;
  void group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias, float eps,
                  ops::Activation activation, const Tensor& y) override;
  void channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                    const Tensor& y) override;
  void norm_rope_heads(std::span<const ops::PackedQkv> streams, const ops::Rope& rope, float eps,
                       const ops::AttentionOperands& out) override {
    projections_.norm_rope_heads(streams, rope, eps, out);
  }
  void project_heads(std::span<const ops::HeadProjection> streams, const ops::Rope& rope, float eps,
                     const ops::AttentionOperands& out) override {
    projections_.project_heads(streams, rope, eps, out);
  }
  void gated_linear(const Tensor& x, const ops::PreparedLinear& weights, ops::Activation activation,
                    std::optional<float> e4m3_scale, const Tensor& y) override {
    projections_.gated_linear(x, weights, activation, e4m3_scale, y);
  }
  ops::E4m3Values e4m3_values(const Shape& heads) const override {
    return cuda::e4m3_values(heads);
  }
  void attention(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                 const Tensor& y) override {
    attention_.run(in, options, y);
  }
  void conv2d(const Tensor& x, const ops::PreparedConv2d& weights, const Tensor& residual,
              const Tensor& y) override {
    convolutions_.run(x, weights, residual, y);
  }
  void conv3d(const Tensor& x, const ops::PreparedConv3d& weights, const Tensor& residual,
              const Tensor& y) override {
    convolutions_.run(x, weights, residual, y);
  }
  void upsample_nearest2x(const Tensor& x, const Tensor& y) override;
  void to_pixels(const Tensor& x, const Tensor& y) override {
    launch_to_pixels(
        {.x = x.raw(), .y = y.data<std::uint8_t>(), .dtype = x.dtype(), .count = x.elements()},
        stream());
  }
  void embedding(const Tensor& table, const Tensor& ids, const Tensor& y) override;
  void activate(const Tensor& x, ops::Activation activation, const Tensor& y) override;
  void gated_activation(const Tensor& x, ops::Activation activation,
                        std::optional<float> e4m3_scale, const Tensor& y) override {
    projections_.gated_activation(x, activation, e4m3_scale, y);
  }
  void add(const Tensor& a, const Tensor& b, const Tensor& y) override;
  void add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) override;
  void affine(const Tensor& x, float factor, float offset, const Tensor& y) override;

 private:
  /// The linear layers that `prepare` prepares.
  std::vector<ops::PreparedLinear*> collect(const std::function<void()>& prepare);
  CollectLayers layer_collector() {
    return [this](const std::function<void()>& prepare) { return collect(prepare); };
  }
  /// A contiguous copy.
  Tensor packed(const Tensor& tensor);
  void axpby(const AxpbyArgs& args) { launch_axpby(args, stream()); }

  // In the order of destruction, reversed: what uses the memory and the stream goes first.
  TracedRegions regions_;
  DeviceMemory memory_;
  WeightMemory weights_{memory_, *this};
  std::vector<ops::PreparedLinear*>* prepared_ = nullptr;  ///< collect() is under way
  Stream stream_ = make_stream();
  Staging staging_;
  Scratch scratch_{memory_, *this};
  LtMatmul matmul_{[this](std::size_t bytes) { return scratch_(bytes); }};
  CudnnHandle cudnn_{stream()};
  CudnnAttention fused_attention_{cudnn_, [this](std::size_t bytes) { return scratch_(bytes); }};
  CudnnConv convolution_{cudnn_, [this](std::size_t bytes) { return scratch_(bytes); }};
  DeviceConstants constants_{*this};
  Scratch expanded_weights_{memory_, *this};  // in use while a product uses scratch_
  LinearKernels linear_{*this,
                        weights_,
                        matmul_,
                        constants_,
                        [this](std::size_t bytes) { return expanded_weights_(bytes); },
                        stream()};
  ProjectionKernels projections_{*this, linear_, stream()};
  AttentionKernels attention_{*this,
                              matmul_,
                              fused_attention_,
                              constants_,
                              [this](std::size_t bytes) { return scratch_(bytes); },
                              stream()};
  ConvolutionKernels convolutions_{*this, convolution_, stream()};
};

std::string CudaBackend::description() const {
  cudaDeviceProp properties{};
  int device = 0;
  check(cudaGetDevice(&device), "find the device");
  check(cudaGetDeviceProperties(&properties, device), "read the device's properties");
  return fmt::format("{}, {} multiprocessors", properties.name, properties.multiProcessorCount);
}

Tensor CudaBackend::upload(const Tensor& host, DType dtype) {
  Tensor uploaded = Tensor::empty(host.shape(), dtype, *this);
  copy(host, uploaded);
  return uploaded;
}

std::vector<ops::PreparedLinear*> CudaBackend::collect(const std::function<void()>& prepare) {
  std::vector<ops::PreparedLinear*> prepared;
  auto* const before = std::exchange(prepared_, &prepared);
  try {
    prepare();
  } catch (...) {
    prepared_ = before;
    throw;
  }
  prepared_ = before;
  return prepared;
}

Tensor CudaBackend::packed(const Tensor& tensor) {
  Tensor result = Tensor::empty(tensor.shape(), tensor.dtype(), *this);
  copy(tensor, result);
  return result;
}

Tensor CudaBackend::download(const Tensor& tensor) {
  const Tensor device = tensor.contiguous() ? tensor : packed(tensor);
  Tensor host = Tensor::host(tensor.shape(), tensor.dtype());
  check(cudaMemcpyAsync(host.raw(), device.raw(), device.bytes(), cudaMemcpyDeviceToHost, stream()),
        "download");
  synchronize();
  return host;
}

void CudaBackend::copy(const Tensor& from, const Tensor& to) {
  if (from.device() == nullptr) {
    if (!from.contiguous()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("copy: {} in host memory is not contiguous", to_string(from)));
    }
    if (from.dtype() == to.dtype() && to.contiguous()) {
      return staging_.upload(from, to.raw(), stream());
    }
    return copy(upload(from, from.dtype()), to);
  }
  CopyArgs args{};
  args.from = from.raw();
  args.to = to.raw();
  args.from_dtype = from.dtype();
  args.to_dtype = to.dtype();
  args.rank = from.rank();
  for (int i = 0; i < from.rank(); ++i) {
    args.shape[i] = from.dim(i);
    args.from_strides[i] = from.strides()[i];
    args.to_strides[i] = to.strides()[i];
  }
  launch_copy(args, stream());
}

void CudaBackend::layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                             const Tensor& y) {
  NormArgs args{};
  args.x = row_view(x);
  args.y = row_view(y);
  args.dtype = x.dtype();
  args.eps = eps;
  if (weight.defined()) {
    args.scale_dtype = weight.dtype();
    args.scale = weight.raw();
    args.shift = bias.raw();
  }
  launch_layer_norm(args, stream());
}

void CudaBackend::layer_norm_modulate(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                      float eps, std::optional<float> e4m3_scale, const Tensor& y) {
  Modulation norm =
      modulation({.shift = shift, .scale = scale, .eps = eps, .e4m3_scale = e4m3_scale}, x.dtype(),
                 x.dim(1), y, *this);
  norm.args.x = row_view(x);
  launch_layer_norm(norm.args, stream());
}

void CudaBackend::rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  NormArgs args{};
  args.x = row_view(x);
  args.y = row_view(y);
  args.dtype = x.dtype();
  args.eps = eps;
  args.scale_dtype = weight.dtype();
  args.scale = weight.raw();
  launch_rms_norm(args, stream());
}

void CudaBackend::group_norm(const Tensor& x, int groups, const Tensor& weight, const Tensor& bias,
                             float eps, ops::Activation activation, const Tensor& y) {
  GroupNormArgs args{};
  args.x = x.raw();
  args.y = y.raw();
  args.dtype = x.dtype();
  args.samples = x.dim(0);
  args.pixels = x.dim(1) * x.dim(2);
  args.channels = x.dim(3);
  args.groups = groups;
  args.weight = weight.raw();
  args.bias = bias.raw();
  args.eps = eps;
  args.activation = activation;
  const std::size_t floats = group_norm_workspace_floats(args.samples, args.pixels, groups);
  args.workspace = static_cast<float*>(scratch_(floats * sizeof(float)));
  launch_group_norm(args, stream());
}

void CudaBackend::channel_norm(const Tensor& x, const Tensor& weight, ops::Activation activation,
                               const Tensor& y) {
  ChannelNormArgs args{};
  args.x = row_view(x);
  args.y = row_view(y);
  args.dtype = x.dtype();
  args.weight = weight.raw();
  args.activation = activation;
  launch_channel_norm(args, stream());
}

void CudaBackend::upsample_nearest2x(const Tensor& x, const Tensor& y) {
  UpsampleArgs args{};
  args.x = x.raw();
  args.y = y.raw();
  args.dtype = x.dtype();
  args.samples = x.dim(0);
  args.height = x.dim(1);
  args.width = x.dim(2);
  args.channels = x.dim(3);
  launch_upsample_nearest2x(args, stream());
}

void CudaBackend::embedding(const Tensor& table, const Tensor& ids, const Tensor& y) {
  EmbeddingArgs args{};
  args.table = table.raw();
  args.ids = ids.data<std::int32_t>();
  args.y = y.raw();
  args.dtype = y.dtype();
  args.count = ids.elements();
  args.width = table.dim(1);
  launch_embedding(args, stream());
}

void CudaBackend::activate(const Tensor& x, ops::Activation activation, const Tensor& y) {
  ActivateArgs args{};
  args.x = row_view(x);
  args.y = row_view(y);
  args.dtype = x.dtype();
  args.activation = activation;
  launch_activate(args, stream());
}

void CudaBackend::add(const Tensor& a, const Tensor& b, const Tensor& y) {
  axpby({.a = a.raw(),
         .b = b.raw(),
         .y = y.raw(),
         .dtype = a.dtype(),
         .alpha = 1,
         .beta = 1,
         .offset = 0,
         .count = a.elements(),
         .period = b.elements()});
}

void CudaBackend::add_scaled(const Tensor& x, const Tensor& v, float factor, const Tensor& y) {
  axpby({.a = x.raw(),
         .b = v.raw(),
         .y = y.raw(),
         .dtype = x.dtype(),
         .alpha = 1,
         .beta = factor,
         .offset = 0,
         .count = x.elements(),
         .period = x.elements()});
}

void CudaBackend::affine(const Tensor& x, float factor, float offset, const Tensor& y) {
  axpby({.a = x.raw(),
         .b = nullptr,
         .y = y.raw(),
         .dtype = x.dtype(),
         .alpha = factor,
         .beta = 0,
         .offset = offset,
         .count = x.elements(),
         .period = x.elements()});
}

/// What keeps this machine from running our kernels; empty when nothing does.
std::string obstacle() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  int runtime = 0;
  int driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  if (status == cudaErrorInsufficientDriver && driver == 0) {
    return "there is no NVIDIA driver (libcuda.so.1)";
  }
  if (status == cudaErrorInsufficientDriver) {
    return fmt::format("the driver speaks CUDA {}.{}, this dither needs {}.{} or newer",
                       driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    return "there is no CUDA device";
  }
  if (status != cudaSuccess) return cudaGetErrorString(status);
  int device = 0;
  cudaDeviceProp properties{};
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    return cudaGetErrorString(cudaGetLastError());
  }
  if (properties.major == 9 && properties.minor == 0) return {};
  return fmt::format(
      "device {} ({}) has compute capability {}.{}, the kernels are built for 9.0 "
      "(Hopper: H100, H200)",
      device, properties.name, properties.major, properties.minor);
}

}  // namespace

CUstream_st* stream_of(ops::Backend& backend) {
  if (const auto* own = dynamic_cast<const CudaBackend*>(&backend)) return own->stream();
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("backend '{}' has no CUDA stream", backend.name()));
}

}  // namespace cuda

bool cuda_available() noexcept {
  try {
    return cuda::obstacle().empty();
  } catch (...) {
    return false;
  }
}

std::unique_ptr<ops::Backend> make_cuda_backend(std::optional<std::size_t> memory_limit) {
  if (const std::string obstacle = cuda::obstacle(); !obstacle.empty()) {
    throw Error(ErrorCode::kDevice,
                fmt::format("device 'cuda': {}; --device cpu works everywhere", obstacle));
  }
  return std::make_unique<cuda::CudaBackend>(memory_limit);
}

}  // namespace dither
