#include "pipelines/trajectory_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"

namespace dither {
namespace {

constexpr std::array<std::string_view, 4> kOwnNames = {"initial_latents", "latents", "sigmas",
                                                       "timesteps"};

Tensor read_f32(const SafetensorsFile& file, std::string_view name, int rank) {
  const TensorInfo* info = file.find(name);
  if (info == nullptr) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: not a trajectory: tensor '{}' is missing",
                                                  file.description(), name));
  }
  if (info->dtype != DType::kF32 || info->shape.size() != rank) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: tensor '{}' is {} {}, a trajectory has F32 with {} dimensions",
                            file.description(), name, dtype_name(info->dtype),
                            to_string(info->shape), rank));
  }
  return file.read(name);
}

/// The four tensors tell the same number of steps and the same latents.
void check_consistent(const Trajectory& trajectory, std::string_view path) {
  const Shape& latents = trajectory.latents.shape();
  const Shape& initial = trajectory.initial_latents.shape();
  const std::int64_t steps = latents[1];
  if (initial[1] != latents[2] || initial[2] != latents[3] ||
      trajectory.timesteps.dim(0) != steps || trajectory.sigmas.dim(0) != steps + 1) {
    throw Error(
        ErrorCode::kDataLoss,
        fmt::format("{}: latents {} contradict initial_latents {}, timesteps {} or sigmas "
                    "{}",
                    path, to_string(latents), to_string(initial),
                    to_string(trajectory.timesteps.shape()), to_string(trajectory.sigmas.shape())));
  }
}

}  // namespace

void save_trajectory(const std::filesystem::path& path, const TrajectoryFile& file) {
  const Trajectory& trajectory = file.trajectory;
  std::map<std::string, Tensor> tensors = {{"initial_latents", trajectory.initial_latents},
                                           {"latents", trajectory.latents},
                                           {"timesteps", trajectory.timesteps},
                                           {"sigmas", trajectory.sigmas}};
  for (const auto& [name, tensor] : trajectory.embeddings) tensors.emplace(name, tensor);
  write_safetensors(path, tensors, file.metadata);
}

TrajectoryFile load_trajectory(const std::filesystem::path& path) {
  const auto file = SafetensorsFile::open(path);
  TrajectoryFile result;
  result.metadata = file->metadata();
  result.trajectory.initial_latents = read_f32(*file, "initial_latents", 3);
  result.trajectory.latents = read_f32(*file, "latents", 4);
  result.trajectory.timesteps = read_f32(*file, "timesteps", 1);
  result.trajectory.sigmas = read_f32(*file, "sigmas", 1);
  check_consistent(result.trajectory, file->description());
  for (const TensorInfo& info : file->tensors()) {
    if (std::ranges::find(kOwnNames, info.name) != kOwnNames.end()) continue;
    result.trajectory.embeddings.emplace_back(info.name, file->read(info.name));
  }
  return result;
}

}  // namespace dither
