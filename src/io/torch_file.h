#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/torch_objects.h"
#include "tensor/tensor_source.h"

namespace dither {

/// What ModelOpt's mto.save records beside the weights.
struct ModelOptState {
  std::string version;
  /// Quantizer name ("proj_out.input_quantizer") -> enabled. Taken from the last entry of
  /// modelopt_state_dict: the first claims that everything is enabled.
  std::map<std::string, bool> quantizer_enabled;
};

/// A state dict stored by torch.save, as a zip archive (torch >= 1.6) or in the legacy form. The
/// pickle inside is read symbolically: nothing is imported or executed. Tensors are views of the
/// mapped file; a non-contiguous one is gathered when it is read.
///
/// The weights are the dict itself or its "model_state_dict" (ModelOpt). A global outside torch's
/// allow-list is refused by name, except below "modelopt_state", where calibrators and enums are
/// inert values. But for those, no file is accepted that torch.load(weights_only=True,
/// map_location="cpu") refuses. TorchScript archives, big-endian files and tar files are refused.
class TorchFile : public TensorSource {
 public:
  /// Throws kNotFound, kIo, kDataLoss or kUnsupported, naming file, record and tensor.
  static std::unique_ptr<TorchFile> open(const std::filesystem::path& path,
                                         TorchGlobals globals = TorchGlobals::kModelOpt);

  ~TorchFile() override;

  std::string_view description() const override;
  const std::vector<TensorInfo>& tensors() const override;
  const TensorInfo* find(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void release(const Tensor& tensor) const override;

  /// Nothing when the file has no "modelopt_state".
  const std::optional<ModelOptState>& modelopt_state() const;

 private:
  struct Impl;
  explicit TorchFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// True for a path that torch.save would have written, by its first bytes.
bool is_torch_file(const std::filesystem::path& path);

}  // namespace dither
