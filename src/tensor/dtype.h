#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dither {

/// Element types. The list is safetensors' (all of it can be stored, listed and copied); kernels
/// compute on kF32, kBF16 and, quantized, kF8E4M3 and kF4E2M1.
enum class DType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF16,
  kBF16,
  kF32,
  kF64,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF6E2M3,
  kF6E3M2,
  kF4E2M1,
};

/// Size of one element in bits: never sizeof, since kF4E2M1 has 4 and the F6 types have 6.
int dtype_bits(DType dtype);

/// safetensors' name: "BF16", "F8_E4M3", ...
std::string_view dtype_name(DType dtype);

/// The inverse of dtype_name; nothing for an unknown name.
std::optional<DType> parse_dtype(std::string_view name);

}  // namespace dither
