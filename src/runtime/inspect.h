#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/model_folder.h"
#include "quant/weight_source.h"
#include "tensor/tensor_source.h"

namespace dither {

/// What the tensors of one dtype amount to.
struct DTypeTotal {
  DType dtype = DType::kF32;
  std::int64_t tensors = 0;
  std::int64_t parameters = 0;  ///< elements
  std::uint64_t bytes = 0;
};

/// One component of a pipeline, or a weight file on its own, known from headers and configs alone.
struct ComponentSummary {
  std::string name;        ///< "transformer"; the file's or folder's name when looked at alone
  std::string class_name;  ///< "FluxTransformer2DModel"; empty where nothing says
  std::filesystem::path path;
  /// Keys of config.json (or another file that configures it) with their values as JSON.
  std::vector<std::pair<std::string, std::string>> config;
  std::map<std::string, std::string> metadata;  ///< safetensors' `__metadata__`
  std::vector<TensorInfo> tensors;              ///< sorted by name; none in a tokenizer
  /// Of a component whose files declare a quantization: who does, and every matrix' plan.
  std::string declared_by;
  std::vector<quant::LayerPlan> layers;
  std::string problem;             ///< why the declaration cannot be followed at all; empty: it can
  std::vector<DTypeTotal> dtypes;  ///< most bytes first
  std::int64_t parameters = 0;
  std::uint64_t bytes = 0;  ///< of the tensors
};

enum class CheckpointKind : std::uint8_t { kPipeline, kComponent, kFile };

struct CheckpointSummary {
  CheckpointKind kind = CheckpointKind::kFile;
  std::filesystem::path path;
  std::string class_name;  ///< of a pipeline: "FluxPipeline"
  GenerationDefaults defaults;
  std::vector<ComponentSummary> components;  ///< one, unless it is a pipeline
  std::int64_t parameters = 0;
  std::uint64_t bytes = 0;
};

/// Describes a pipeline folder, a component folder (config.json, weights, or both), a safetensors
/// file, a shard index or a file that torch.save wrote. Reads headers only, so any size is quick; a
/// model that Dither cannot run is described all the same. Throws kNotFound (nothing there, or a
/// folder with nothing that it knows), kDataLoss, kUnsupported (another kind of file).
CheckpointSummary inspect_checkpoint(const std::filesystem::path& path);

}  // namespace dither
