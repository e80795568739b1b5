#include "tensor/dtype.h"

#include <array>

namespace dither {
namespace {

struct DTypeRow {
  DType dtype;
  int bits;
  std::string_view name;
};

// In the enumerators' order, so that a dtype is its own index.
constexpr std::array<DTypeRow, 20> kTable = {{
    {DType::kBool, 8, "BOOL"},      {DType::kU8, 8, "U8"},          {DType::kI8, 8, "I8"},
    {DType::kU16, 16, "U16"},       {DType::kI16, 16, "I16"},       {DType::kU32, 32, "U32"},
    {DType::kI32, 32, "I32"},       {DType::kU64, 64, "U64"},       {DType::kI64, 64, "I64"},
    {DType::kF16, 16, "F16"},       {DType::kBF16, 16, "BF16"},     {DType::kF32, 32, "F32"},
    {DType::kF64, 64, "F64"},       {DType::kC64, 64, "C64"},       {DType::kF8E4M3, 8, "F8_E4M3"},
    {DType::kF8E5M2, 8, "F8_E5M2"}, {DType::kF8E8M0, 8, "F8_E8M0"}, {DType::kF6E2M3, 6, "F6_E2M3"},
    {DType::kF6E3M2, 6, "F6_E3M2"}, {DType::kF4E2M1, 4, "F4"},
}};

constexpr bool table_is_ordered() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].dtype) != i) return false;
  }
  return true;
}
static_assert(table_is_ordered());

}  // namespace

int dtype_bits(DType dtype) { return kTable[static_cast<std::size_t>(dtype)].bits; }

std::string_view dtype_name(DType dtype) { return kTable[static_cast<std::size_t>(dtype)].name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DTypeRow& row : kTable) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

}  // namespace dither
