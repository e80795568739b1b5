#include "backends/cpu/host_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "backends/cpu/strided.h"
#include "base/error.h"
#include "tensor/bfloat16.h"

namespace dither::cpu {
namespace {

bool aligned(const Tensor& tensor) {
  const auto bytes = static_cast<std::uintptr_t>((dtype_bits(tensor.dtype()) + 7) / 8);
  return reinterpret_cast<std::uintptr_t>(tensor.raw()) % bytes == 0;
}

/// The same bytes as a contiguous tensor of another device (or of plain host memory).
Tensor share(const Tensor& tensor, Device* device) {
  auto storage = std::make_shared<Storage>(tensor.raw(), tensor.bytes(), device, tensor.storage());
  return Tensor::view(std::move(storage), 0, tensor.shape(), tensor.dtype());
}

/// A checkpoint's bytes at any address, as an aligned host tensor.
Tensor realign(const Tensor& tensor) {
  if (aligned(tensor)) return tensor;
  Tensor copy = Tensor::host(tensor.shape(), tensor.dtype());
  std::memcpy(copy.raw(), tensor.raw(), tensor.bytes());
  return copy;
}

}  // namespace

Tensor HostBackend::upload(const Tensor& host, DType dtype) {
  if (host.dtype() == dtype && host.contiguous() && aligned(host)) return share(host, this);
  Tensor result = Tensor::empty(host.shape(), dtype, *this);
  copy_strided(realign(host), result, threads_);
  return result;
}

Tensor HostBackend::download(const Tensor& tensor) {
  if (tensor.contiguous()) return share(tensor, nullptr);
  Tensor result = Tensor::empty(tensor.shape(), tensor.dtype(), *this);
  copy(tensor, result);
  return share(result, nullptr);
}

void HostBackend::copy(const Tensor& from, const Tensor& to) { copy_strided(from, to, threads_); }

void check_ids(const Tensor& ids, std::int64_t rows) {
  const auto* values = ids.data<std::int32_t>();
  for (std::int64_t i = 0; i < ids.elements(); ++i) {
    if (values[i] >= 0 && values[i] < rows) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("embedding: id {} at position {} is outside a table of {} rows",
                            values[i], i, rows));
  }
}

namespace {

/// round(255 clamp(x / 2 + 1/2, 0, 1)), ties to even; NaN is black. Without branches or calls, so
/// that compilers make vectors of it.
std::uint8_t to_level(float x) {
  const float unit = x * 0.5F + 0.5F;
  const float above = unit > 0.0F ? unit : 0.0F;
  const float level = (above < 1.0F ? above : 1.0F) * 255.0F;
  constexpr float kInteger = 8388608.0F;  // 2^23: from here on float32 has integers only
  return static_cast<std::uint8_t>(static_cast<std::int32_t>((level + kInteger) - kInteger));
}

template <typename T>
void convert_to_levels(const Tensor& x, const Tensor& y) {
  const T* const values = x.data<T>();
  std::transform(values, values + x.elements(), y.data<std::uint8_t>(),
                 [](T value) { return to_level(to_float(value)); });
}

}  // namespace

void HostBackend::to_pixels(const Tensor& x, const Tensor& y) {
  if (x.dtype() == DType::kF32) return convert_to_levels<float>(x, y);
  convert_to_levels<bf16>(x, y);
}

}  // namespace dither::cpu
