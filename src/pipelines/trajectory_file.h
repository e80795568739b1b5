#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "pipelines/pipeline.h"

namespace dither {

/// A trajectory with the words that describe it: "prompt", "seed", "model", "dtype", ...
struct TrajectoryFile {
  Trajectory trajectory;
  std::map<std::string, std::string> metadata;
};

/// Writes a safetensors file that appears complete: "initial_latents", "latents", "timesteps",
/// "sigmas" and every embedding under its own name, all f32, shapes as in Trajectory.
/// Throws kNotFound, kIo, kResourceExhausted.
void save_trajectory(const std::filesystem::path& path, const TrajectoryFile& file);

/// Reads what save_trajectory() wrote; tensors beyond its four become embeddings. Throws what
/// SafetensorsFile::open() throws, and kDataLoss naming the tensor that is missing or has a shape
/// or dtype that no trajectory has.
TrajectoryFile load_trajectory(const std::filesystem::path& path);

}  // namespace dither
