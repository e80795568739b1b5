#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/torch_storage.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace dither {

/// Which globals a file may name.
enum class TorchGlobals {
  kTorch,     ///< a part of what torch.load(weights_only=True) allows
  kModelOpt,  ///< also any below "modelopt_state": calibrators and enums occur there, as inert
              ///< values
};

/// A tensor that the pickle rebuilds: a strided window of a storage.
struct TorchTensor {
  std::span<const std::byte> storage;
  DType dtype = DType::kF32;
  Shape shape;
  Strides strides;          ///< in elements
  std::int64_t offset = 0;  ///< in elements
};

/// The values that torch's weights-only reader would build from the pickle of a container. Nothing
/// is built: the arguments of each call are held against what torch would accept.
class TorchObjects {
 public:
  /// `container` outlives this. `where` is for messages.
  TorchObjects(const TorchContainer& container, std::string where)
      : pickle_(container.object), container_(container), where_(std::move(where)) {}

  /// Throws kDataLoss, naming it, for a global that is not allowed. To be called first.
  void check_globals(TorchGlobals globals) const;
  /// Checks every call and storage, also those that nothing refers to: torch would have built them.
  /// Throws kDataLoss for a call that torch would refuse or that no checkpoint contains.
  void check_values() const;

  /// The tensor or parameter at `id`; `name` is for messages. Throws kDataLoss.
  TorchTensor tensor(Pickle::Id id, std::string_view name) const;

 private:
  using Id = Pickle::Id;

  [[noreturn]] void fail(const std::string& what) const;
  void check_call(Id id) const;
  bool is_valid_call(Id id, std::string_view callable) const;
  bool is_call(Id id, std::string_view callable) const;
  const std::vector<Id>& arguments(Id call) const;
  std::int64_t integer(Id id, std::string_view name) const;
  Dims integers(Id id, std::string_view name) const;
  bool flag(Id id, std::string_view name) const;
  void check_hooks(Id id, std::string_view name) const;
  void check_bounds(const TorchTensor& tensor, std::string_view name) const;
  /// Sets `dtype` unless the storage is untyped.
  std::span<const std::byte> storage(Id id, std::string_view name,
                                     std::optional<DType>& dtype) const;

  const Pickle& pickle_;
  const TorchContainer& container_;
  std::string where_;
};

}  // namespace dither
