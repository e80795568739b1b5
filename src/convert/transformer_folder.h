#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "io/checkpoint.h"

namespace dither::convert {

/// A diffusers transformer on disk: config.json and weights, in one file or in shards.
struct TransformerFolder {
  std::filesystem::path path;
  nlohmann::json config = {};
  std::string index_name = {};  ///< of the shard index, also when there is none yet
  std::unique_ptr<Checkpoint> weights = {};

  /// `path`: the folder with config.json, or one whose "transformer" is it. The index is
  /// model.safetensors.index.json, else diffusion_pytorch_model.safetensors.index.json, else the
  /// first of its kind; a folder without one must hold a single safetensors file. Throws kNotFound
  /// and what open_checkpoint() throws.
  static TransformerFolder open(const std::filesystem::path& path);

  /// For messages.
  std::string config_file() const { return (path / "config.json").string(); }
};

/// True for weights and shard indices: the files that a conversion replaces.
bool is_weight_file(const std::filesystem::path& file);

}  // namespace dither::convert
