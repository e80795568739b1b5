#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "ops/backend.h"
#include "pipelines/pipeline.h"

namespace dither {

/// Fills a Trajectory while a picture is drawn. Everything is copied to host memory as f32, so that
/// the result outlives the backend.
class TrajectoryRecorder {
 public:
  explicit TrajectoryRecorder(ops::Backend& backend) : backend_(&backend) {}

  /// `initial_latents` [1, L, C]; `sigmas` has one value more than `timesteps`.
  void begin(const Tensor& initial_latents, std::span<const float> timesteps,
             std::span<const float> sigmas);
  /// Latents after a step, 0-based.
  void record_step(std::int64_t step, const Tensor& latents);
  void record_embedding(std::string name, const Tensor& embedding);

  Trajectory take() { return std::move(trajectory_); }

 private:
  ops::Backend* backend_;
  Trajectory trajectory_;
};

/// A contiguous copy of a tensor in plain host memory, as f32.
Tensor host_copy_f32(const Tensor& tensor, ops::Backend& backend);

}  // namespace dither
