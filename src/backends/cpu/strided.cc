#include "backends/cpu/strided.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "backends/cpu/kernels.h"
#include "backends/cpu/parallel.h"
#include "base/error.h"
#include "tensor/half.h"

namespace dither::cpu {
namespace {

struct Half {
  std::uint16_t bits;
};

/// One pair of tensors as nested loops: adjacent dimensions that are dense in both are one loop.
struct Loops {
  int rank = 0;
  std::array<std::int64_t, Dims::kMaxRank> extent{};
  std::array<std::int64_t, Dims::kMaxRank> from_stride{};
  std::array<std::int64_t, Dims::kMaxRank> to_stride{};
};

std::size_t at(int index) { return static_cast<std::size_t>(index); }

Loops collapse(const Tensor& from, const Tensor& to) {
  Loops loops;
  for (int i = 0; i < from.rank(); ++i) {
    const std::int64_t extent = from.dim(i);
    if (extent == 1) continue;
    const int last = loops.rank - 1;
    if (last >= 0 && loops.from_stride[at(last)] == extent * from.strides()[i] &&
        loops.to_stride[at(last)] == extent * to.strides()[i]) {
      loops.extent[at(last)] *= extent;
      loops.from_stride[at(last)] = from.strides()[i];
      loops.to_stride[at(last)] = to.strides()[i];
      continue;
    }
    loops.extent[at(loops.rank)] = extent;
    loops.from_stride[at(loops.rank)] = from.strides()[i];
    loops.to_stride[at(loops.rank)] = to.strides()[i];
    ++loops.rank;
  }
  if (loops.rank == 0) {
    loops.extent[0] = 1;
    loops.from_stride[0] = loops.to_stride[0] = 1;
    loops.rank = 1;
  }
  return loops;
}

float value_of(float value) { return value; }
float value_of(double value) { return static_cast<float>(value); }
float value_of(bf16 value) { return to_float(value); }
float value_of(Half value) { return half_to_float(value.bits); }

void assign(float value, float& to) { to = value; }
void assign(float value, double& to) { to = static_cast<double>(value); }
void assign(float value, bf16& to) { to = to_bf16(value); }
void assign(float value, Half& to) { to.bits = float_to_half(value); }

template <typename From, typename To>
constexpr bool kIsActivationPair = (std::is_same_v<From, float> && std::is_same_v<To, bf16>) ||
                                   (std::is_same_v<From, bf16> && std::is_same_v<To, float>);

template <typename From, typename To>
void copy_line(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride,
               std::int64_t count) {
  if constexpr (std::is_same_v<From, To>) {
    if (from_stride == 1 && to_stride == 1) {
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(From));
      return;
    }
    for (std::int64_t i = 0; i < count; ++i) to[i * to_stride] = from[i * from_stride];
  } else {
    if constexpr (kIsActivationPair<From, To>) {
      if (from_stride == 1 && to_stride == 1) return convert(from, to, count);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      assign(value_of(from[i * from_stride]), to[i * to_stride]);
    }
  }
}

template <typename From, typename To>
void copy_as(const Tensor& source, const Tensor& target, int threads) {
  constexpr std::int64_t kGrain = 1 << 16;  // elements; a thread wakes in about a microsecond
  const Loops loops = collapse(source, target);
  const int inner = loops.rank - 1;
  const std::int64_t line = loops.extent[at(inner)];
  const std::int64_t lines = line == 0 ? 0 : source.elements() / line;
  parallel_ranges(
      threads, lines, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, line)),
      [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t index = begin; index < end; ++index) {
          std::int64_t rest = index;
          const From* from = source.data<From>();
          To* to = target.data<To>();
          for (int d = inner - 1; d >= 0; --d) {
            const std::int64_t i = rest % loops.extent[at(d)];
            rest /= loops.extent[at(d)];
            from += i * loops.from_stride[at(d)];
            to += i * loops.to_stride[at(d)];
          }
          copy_line(from, loops.from_stride[at(inner)], to, loops.to_stride[at(inner)], line);
        }
      });
}

[[noreturn]] void refuse(const Tensor& from, const Tensor& to) {
  throw Error(ErrorCode::kUnsupported, fmt::format("cpu: no conversion from {} to {}",
                                                   to_string(from), dtype_name(to.dtype())));
}

template <typename From>
void copy_from(const Tensor& from, const Tensor& to, int threads) {
  switch (to.dtype()) {
    case DType::kF32:
      return copy_as<From, float>(from, to, threads);
    case DType::kBF16:
      return copy_as<From, bf16>(from, to, threads);
    case DType::kF16:
      return copy_as<From, Half>(from, to, threads);
    case DType::kF64:
      return copy_as<From, double>(from, to, threads);
    default:
      refuse(from, to);
  }
}

void copy_bits(const Tensor& from, const Tensor& to, int threads) {
  switch (dtype_bits(from.dtype())) {
    case 8:
      return copy_as<std::uint8_t, std::uint8_t>(from, to, threads);
    case 16:
      return copy_as<std::uint16_t, std::uint16_t>(from, to, threads);
    case 32:
      return copy_as<std::uint32_t, std::uint32_t>(from, to, threads);
    case 64:
      return copy_as<std::uint64_t, std::uint64_t>(from, to, threads);
    default:
      break;  // views of sub-byte types are contiguous
  }
  std::memcpy(to.raw(), from.raw(), from.bytes());
}

}  // namespace

void copy_strided(const Tensor& from, const Tensor& to, int threads) {
  if (from.shape() != to.shape()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("cpu: copy from {} to {}", to_string(from), to_string(to)));
  }
  if (from.elements() == 0) return;
  if (from.dtype() == to.dtype()) return copy_bits(from, to, threads);
  switch (from.dtype()) {
    case DType::kF32:
      return copy_from<float>(from, to, threads);
    case DType::kBF16:
      return copy_from<bf16>(from, to, threads);
    case DType::kF16:
      return copy_from<Half>(from, to, threads);
    case DType::kF64:
      return copy_from<double>(from, to, threads);
    default:
      refuse(from, to);
  }
}

namespace {

/// A float32 tensor over existing values, which must outlive it.
Tensor over(const float* values, const Shape& shape) {
  const auto bytes = static_cast<std::size_t>(element_count(shape)) * sizeof(float);
  auto* data = reinterpret_cast<std::byte*>(const_cast<float*>(values));
  return Tensor::view(std::make_shared<Storage>(data, bytes, nullptr, nullptr), 0, shape,
                      DType::kF32);
}

}  // namespace

std::vector<float> to_floats(const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  copy_strided(tensor, over(values.data(), tensor.shape()));
  return values;
}

void from_floats(std::span<const float> values, const Tensor& tensor) {
  copy_strided(over(values.data(), tensor.shape()), tensor);
}

}  // namespace dither::cpu
