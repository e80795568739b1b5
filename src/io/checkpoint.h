#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor_source.h"

namespace dither {

/// Stems of the weight files that diffusers and transformers write.
inline constexpr std::string_view kDiffusersStem = "diffusion_pytorch_model";
inline constexpr std::string_view kTransformersStem = "model";

/// The `__metadata__` of one weight file.
struct FileMetadata {
  std::string file;
  std::map<std::string, std::string> entries;
};

/// Safetensors weights in one file or several.
class Checkpoint : public TensorSource {
 public:
  /// One entry per file, also for files without metadata.
  virtual std::vector<FileMetadata> file_metadata() const = 0;
  /// What the files call a tensor that goes by another name here, for messages.
  virtual std::string_view stored_name(std::string_view name) const { return name; }
};

/// Opens `file`: a safetensors file, or a shard index (`*.safetensors.index.json`) whose shards lie
/// beside it. All shards of an index form one source. Throws kNotFound (no such file, a missing
/// shard), kDataLoss (a shard or the index is malformed, or they contradict each other: one error
/// lists every tensor that the index and the shards disagree about), kUnsupported (other file
/// kinds).
std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& file);

/// Opens the weights in a component's folder: `<stem>.safetensors`, else
/// `<stem>.safetensors.index.json`. Throws kNotFound, saying what it looked for and what is there,
/// else like open_checkpoint().
std::unique_ptr<Checkpoint> open_component(const std::filesystem::path& folder,
                                           std::string_view stem);

}  // namespace dither
