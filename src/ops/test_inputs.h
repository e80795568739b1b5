#pragma once

#include <cstdint>
#include <random>

#include "ops/backend.h"
#include "tensor/bfloat16.h"
#include "tensor/float8.h"
#include "tensor/tensor.h"

namespace dither::ops {

/// The same pseudo-random operands for any backend: one instance per run of a formula.
class TestInputs {
 public:
  TestInputs(Backend& backend, DType dtype) : backend_(backend), dtype_(dtype) {}

  Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }

  /// Uniform in [-1, 1), exact in bf16.
  Tensor host(const Shape& shape) {
    Tensor tensor = Tensor::host(shape, DType::kF32);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (std::int64_t i = 0; i < tensor.elements(); ++i) {
      tensor.data<float>()[i] = round_to_bf16(uniform(generator_));
    }
    return tensor;
  }
  /// E4M3 codes of such values times 448.
  Tensor host_codes(const Shape& shape) {
    const Tensor values = host(shape);
    Tensor codes = Tensor::host(shape, DType::kF8E4M3);
    for (std::int64_t i = 0; i < codes.elements(); ++i) {
      codes.data<std::uint8_t>()[i] = to_e4m3_saturated(448 * values.data<float>()[i]);
    }
    return codes;
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
  Backend& backend_;
  DType dtype_;
  std::mt19937 generator_{42};
};

}  // namespace dither::ops
