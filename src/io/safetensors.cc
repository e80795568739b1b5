#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {

std::unique_ptr<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  return std::unique_ptr<SafetensorsFile>(new SafetensorsFile(MappedFile::open(path)));
}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> file)
    : file_(std::move(file)),
      storage_(std::make_shared<Storage>(file_->bytes(), file_)),
      description_(file_->path().string()),
      header_(parse_safetensors_header(file_->bytes(), description_)) {}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(header_.tensors, name, {}, &TensorInfo::name);
  return it != header_.tensors.end() && it->name == name ? &*it : nullptr;
}

Tensor SafetensorsFile::read(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no tensor {}", description_, quote(name)));
  }
  const std::uint64_t offset =
      header_.offsets[static_cast<std::size_t>(info - header_.tensors.data())];
  auto view = Tensor::view(storage_, static_cast<std::int64_t>(offset), info->shape, info->dtype);
  const auto alignment = static_cast<std::uintptr_t>(std::max(1, dtype_bits(info->dtype) / 8));
  if (reinterpret_cast<std::uintptr_t>(view.raw()) % alignment == 0) return view;
  Tensor copy = Tensor::host(info->shape, info->dtype);
  std::memcpy(copy.raw(), view.raw(), view.bytes());
  return copy;
}

void SafetensorsFile::release(const Tensor& tensor) const {
  if (tensor.storage() == storage_) file_->release({tensor.raw(), tensor.bytes()});
}

}  // namespace dither
