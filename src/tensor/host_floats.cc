#include "tensor/host_floats.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "tensor/half.h"

namespace dither {

bool is_floating(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         dtype == DType::kF64;
}

void read_floats(const Tensor& tensor, std::int64_t begin, std::span<float> out) {
  const auto count = static_cast<std::int64_t>(out.size());
  if (!tensor.contiguous() || begin < 0 || begin > tensor.elements() - count) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("no elements {}..{} in {}", begin, begin + count, to_string(tensor)));
  }
  const auto read = [&]<typename T>(const T* first, auto convert) {
    std::transform(first + begin, first + begin + count, out.begin(), convert);
  };
  switch (tensor.dtype()) {
    case DType::kF32:
      return read(tensor.data<float>(), [](float x) { return x; });
    case DType::kF64:
      return read(tensor.data<double>(), [](double x) { return static_cast<float>(x); });
    case DType::kBF16:
      return read(tensor.data<bf16>(), [](bf16 x) { return to_float(x); });
    case DType::kF16:
      return read(tensor.data<std::uint16_t>(), half_to_float);
    default:
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{} is not a floating-point tensor", to_string(tensor)));
  }
}

}  // namespace dither
