#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda/cuda_backend.h"
#include "ops/ops.h"
#include "ops/test_inputs.h"

/// What tests of ops on the CUDA backend share: the comparison with the reference backend,
/// whose plain loops define every op.
namespace dither::cuda_test {

using Inputs = ops::TestInputs;
using Formula = std::function<Tensor(Inputs&)>;

inline std::vector<float> to_floats(const Tensor& tensor) {
  ops::Backend& backend = ops::backend_of(tensor);
  const Tensor host = backend.download(ops::cast(ops::contiguous(tensor), DType::kF32));
  return {host.data<float>(), host.data<float>() + host.elements()};
}

class CudaOps : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device: nothing of this was tested";
    cuda_ = make_cuda_backend();
  }

  bool bf16() const { return GetParam() == DType::kBF16; }

  /// |cuda - reference| <= absolute + relative |reference| everywhere; see cpu_backend_test.cc. A
  /// bf16 kernel made of two rounds its intermediate result too: `intermediate` is a bound of it.
  void compare(const Formula& formula, double absolute, double intermediate = 0) {
    const auto run = [&](ops::Backend& backend) {
      Inputs inputs(backend, GetParam());
      return to_floats(formula(inputs));
    };
    const std::vector<float> expected = run(*reference_);
    const double relative = bf16() ? 0x1p-7 : 0x1p-20;
    if (bf16()) absolute += 0x1p-8 * intermediate;
    for (int round = 0; round < 2; ++round) {  // the second meets cached plans, recycled memory
      const std::vector<float> actual = run(*cuda_);
      ASSERT_EQ(actual.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], absolute + relative * std::abs(expected[i]))
            << "element " << i << " in round " << round;
      }
    }
  }

  std::unique_ptr<ops::Backend> reference_ = cpu::make_cpu_reference_backend();
  std::unique_ptr<ops::Backend> cuda_;
};

/// Seven standard deviations of a float32 sum's rounding error, see cpu_backend_test.cc.
inline double sum_error(std::int64_t terms) {
  return static_cast<double>(terms) * 0x1p-24 + 0x1p-22;
}
/// And of the sum itself: products of two uniform values have a deviation of 1/3.
inline double sum_bound(std::int64_t terms) {
  return 1 + 7 * std::sqrt(static_cast<double>(terms)) / 3;
}

}  // namespace dither::cuda_test
