#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/mapped_file.h"
#include "io/pickle.h"

namespace dither {

/// The two containers of torch.save, reduced to what they have in common: one pickle that describes
/// an object and raw storages under string keys.
struct TorchContainer {
  std::shared_ptr<const MappedFile> file;
  Pickle object;
  std::map<std::string, std::span<const std::byte>, std::less<>> storages;
  bool legacy = false;
};

/// Parses either container. Throws kNotFound, kIo, kDataLoss, or kUnsupported for TorchScript
/// archives and big-endian files.
TorchContainer open_torch_container(const std::filesystem::path& path);

/// A storage's description in a persistent id: ("storage", type, key, location, numel), in a legacy
/// file with a sixth field, view_metadata, that is None in what anybody writes.
struct TorchStorageRef {
  std::string_view type;  ///< "torch FloatStorage", "torch.storage UntypedStorage"
  std::string_view key;
  std::uint64_t elements = 0;  ///< bytes for UntypedStorage
};

/// Throws kDataLoss when `id` is no persistent id of that form.
TorchStorageRef torch_storage_ref(const Pickle& pickle, Pickle::Id id, bool legacy,
                                  std::string_view where);

/// Bytes of an element of a storage type; 0 for a name that is no storage type.
std::uint64_t torch_storage_element_bytes(std::string_view type);

}  // namespace dither
