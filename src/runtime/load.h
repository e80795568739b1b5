#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "ops/backend.h"
#include "pipelines/pipeline.h"
#include "runtime/registry.h"

namespace dither {

enum class DeviceChoice : std::uint8_t { kAuto, kCpu, kCuda };

struct LoadOptions {
  std::filesystem::path model_path = {};  ///< a diffusers model folder
  /// Component folders that replace the model's own: "transformer" -> path.
  std::map<std::string, std::filesystem::path> component_paths = {};
  /// Dtype of weights and activations; by default the transformer checkpoint's own (bfloat16).
  std::optional<DType> dtype = {};
  PipelineOptions pipeline = {};
  DeviceChoice device = DeviceChoice::kAuto;
  int threads = 0;  ///< CPU backend: 0 takes what the process may use
  /// CUDA backend: as much of the device's memory as the process may use, its driver's share
  /// included; absent: what is free.
  std::optional<std::size_t> max_vram_bytes = {};
};

/// A pipeline with the backend it runs on, which outlives it.
struct LoadedPipeline {
  std::unique_ptr<ops::Backend> backend;
  std::unique_ptr<Pipeline> pipeline;
};

/// The backend for the options' device, threads and memory; kAuto takes CUDA when this build has it
/// and it works, else the CPU. Throws kUnsupported or kDevice when CUDA was asked for and is not to
/// be had, kInvalidArgument for less memory than the driver itself takes.
std::unique_ptr<ops::Backend> make_backend(const LoadOptions& options);

/// What the model of these options makes, from its model_index.json alone. Throws kNotFound,
/// kDataLoss or kUnsupported.
OutputKind output_kind(const LoadOptions& options);

/// What the model of these options will make of requests, from its configs alone, so that one is
/// refused before a weight is read. Throws as load_pipeline() for configs.
RequestResolver make_resolver(const LoadOptions& options);

/// That of one request, for which the memory plan will make room.
ResolvedRequest plan_for(const GenerateRequest& request, LoadOptions& options);

/// Opens a model folder, checks all of its headers against the models' tensor tables and loads the
/// weights. Throws kNotFound, kDataLoss or kUnsupported, naming file and tensor.
LoadedPipeline load_pipeline(const LoadOptions& options);

/// The same on a given backend; the options for make_backend() are not looked at.
LoadedPipeline load_pipeline(const LoadOptions& options, std::unique_ptr<ops::Backend> backend);

}  // namespace dither
