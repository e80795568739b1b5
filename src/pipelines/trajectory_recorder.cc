#include "pipelines/trajectory_recorder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "ops/ops.h"

namespace dither {
namespace {

Tensor host_vector(std::span<const float> values) {
  Tensor tensor = Tensor::host({static_cast<std::int64_t>(values.size())}, DType::kF32);
  std::ranges::copy(values, tensor.data<float>());
  return tensor;
}

}  // namespace

Tensor host_copy_f32(const Tensor& tensor, ops::Backend& backend) {
  const Tensor downloaded = backend.download(ops::cast(tensor, DType::kF32));
  Tensor copy = Tensor::host(tensor.shape(), DType::kF32);
  std::memcpy(copy.raw(), downloaded.raw(), copy.bytes());
  return copy;
}

void TrajectoryRecorder::begin(const Tensor& initial_latents, std::span<const float> timesteps,
                               std::span<const float> sigmas) {
  const auto steps = static_cast<std::int64_t>(timesteps.size());
  trajectory_.initial_latents = host_copy_f32(initial_latents, *backend_);
  trajectory_.latents =
      Tensor::host({1, steps, initial_latents.dim(1), initial_latents.dim(2)}, DType::kF32);
  trajectory_.timesteps = host_vector(timesteps);
  trajectory_.sigmas = host_vector(sigmas);
}

void TrajectoryRecorder::record_step(std::int64_t step, const Tensor& latents) {
  const Tensor copy = host_copy_f32(latents, *backend_);
  const Tensor slot = trajectory_.latents.slice(1, step, step + 1);
  std::memcpy(slot.raw(), copy.raw(), copy.bytes());
}

void TrajectoryRecorder::record_embedding(std::string name, const Tensor& embedding) {
  trajectory_.embeddings.emplace_back(std::move(name), host_copy_f32(embedding, *backend_));
}

}  // namespace dither
