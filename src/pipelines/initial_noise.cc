#include "pipelines/initial_noise.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "schedulers/torch_noise.h"

namespace dither {
namespace {

std::vector<float> randn(std::int64_t count, std::uint64_t seed, NoiseSource source,
                         schedulers::NoiseDType dtype) {
  using schedulers::CpuBf16Noise;
  switch (source) {
    case NoiseSource::kTorchCpu:
      return schedulers::TorchCpuGenerator(seed).randn(count, dtype);
    case NoiseSource::kTorchCpuLegacy:
      return schedulers::TorchCpuGenerator(seed, CpuBf16Noise::kCoarse).randn(count, dtype);
    case NoiseSource::kTorchCuda:
      return schedulers::TorchCudaGenerator(seed).randn(count, dtype);
  }
  throw Error(ErrorCode::kInternal, "initial noise: unknown source");
}

}  // namespace

Tensor initial_noise(const Shape& shape, std::uint64_t seed, NoiseSource source, DType dtype) {
  if (dtype != DType::kF32 && dtype != DType::kBF16) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("initial noise: dtype {}, only F32 and BF16 can be drawn", dtype_name(dtype)));
  }
  const auto drawn_as =
      dtype == DType::kBF16 ? schedulers::NoiseDType::kBF16 : schedulers::NoiseDType::kF32;
  const std::vector<float> values = randn(element_count(shape), seed, source, drawn_as);
  Tensor noise = Tensor::host(shape, DType::kF32);
  std::ranges::copy(values, noise.data<float>());
  return noise;
}

}  // namespace dither
