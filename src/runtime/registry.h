#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "io/model_folder.h"
#include "ops/backend.h"
#include "pipelines/pipeline.h"

namespace dither {

/// Loads a pipeline from its folder on a backend that outlives it; `dtype` absent: the
/// checkpoint's.
using PipelineLoader = std::unique_ptr<Pipeline> (*)(const ModelFolder& folder,
                                                     ops::Backend& backend,
                                                     std::optional<DType> dtype,
                                                     const PipelineOptions& options);

/// What a pipeline makes.
enum class OutputKind : std::uint8_t { kPicture, kVideo };

/// The kind of output of the class that model_index.json names; throws as find_pipeline().
OutputKind output_kind(const ModelFolder& folder);

/// The loader for the class that model_index.json names. Throws kUnsupported, naming the folder,
/// the class and the classes that there are.
PipelineLoader find_pipeline(const ModelFolder& folder);

/// The resolver of that class for this folder. Throws as find_pipeline(), and what its configs
/// throw.
RequestResolver make_resolver(const ModelFolder& folder);

}  // namespace dither
