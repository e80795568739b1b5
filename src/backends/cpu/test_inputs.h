#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "backends/cpu/strided.h"
#include "ops/backend.h"

namespace dither::cpu {

/// The same pseudo-random operands for any backend: one instance per run of a formula.
class Inputs {
 public:
  Inputs(ops::Backend& backend, DType dtype) : backend_(backend), dtype_(dtype) {}

  ops::Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }

  /// Uniform in [-1, 1), exact in bf16.
  Tensor host(const Shape& shape) {
    Tensor tensor = Tensor::host(shape, DType::kF32);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    for (float& value : values) value = round_to_bf16(uniform(generator_));
    from_floats(values, tensor);
    return tensor;
  }
  Tensor tensor(const Shape& shape) { return backend_.upload(host(shape), dtype_); }
  Tensor table(const Shape& shape) { return backend_.upload(host(shape), DType::kF32); }
  /// Rows that do not lie next to each other, starting off any vector boundary.
  Tensor strided(Shape shape) {
    const std::int64_t cols = shape[-1];
    shape[-1] = cols + 5;
    return tensor(shape).slice(-1, 3, 3 + cols);
  }

 private:
  ops::Backend& backend_;
  DType dtype_;
  std::mt19937 generator_{42};
};

}  // namespace dither::cpu
