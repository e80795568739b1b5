#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

namespace dither::schedulers {

/// dtype argument of torch.randn. Values come back as float; for kBF16 each is a bfloat16 value.
enum class NoiseDType { kF32, kBF16 };

/// How a CPU generator draws 16 or more bfloat16 values; PyTorch changed it between 2.11 and 2.14.
enum class CpuBf16Noise {
  kRoundedF32,  ///< 2.14 and later: computed in float32, then rounded.
  kCoarse,      ///< Up to 2.11: 8-bit uniforms, every operation rounded to bfloat16.
};

/// torch.Generator("cpu").manual_seed(seed) with torch.randn(n, generator=...): MT19937 and
/// Box-Muller. Draws continue from one another as they do in PyTorch.
///
/// Bit for bit PyTorch on x86-64 with AVX2, float32 and both bfloat16 rules, every n. Checked
/// against torch 2.11, 2.14 and 2.15; see torch_noise_test.cc. PyTorch without AVX2 and on other
/// architectures evaluates ln, sin and cos by libm: up to 2.4e-7 away, the same integers.
class TorchCpuGenerator {
 public:
  /// Only the low 32 bits of the seed count, as in PyTorch.
  explicit TorchCpuGenerator(uint64_t seed, CpuBf16Noise bf16_noise = CpuBf16Noise::kRoundedF32)
      : engine_(static_cast<uint32_t>(seed)), bf16_noise_(bf16_noise) {}

  /// `count` standard normal values in row-major order of the tensor. The values of a longer draw
  /// do not begin with those of a shorter one. Throws kInvalidArgument if count < 0.
  std::vector<float> randn(int64_t count, NoiseDType dtype);

 private:
  void fill_uniform(float* values, int64_t count);
  void fill_uniform_coarse(float* values, int64_t count);
  double next_normal();

  std::mt19937 engine_;
  CpuBf16Noise bf16_noise_;
  std::optional<double> spare_normal_;  // second value of the last pair of next_normal()
};

/// The two properties of a GPU that decide how torch.randn spreads the Philox stream over a tensor.
/// Defaults: NVIDIA H200 and H100 SXM. A100: 108 x 2048.
struct CudaDeviceShape {
  int multiprocessor_count = 132;
  int max_threads_per_multiprocessor = 2048;
};

/// torch.Generator("cuda").manual_seed(seed) with torch.randn(n, generator=..., device="cuda"):
/// Philox4x32-10 (Salmon et al. 2011) and cuRAND's Box-Muller. bfloat16 is the rounded float32.
///
/// Bit for bit an H200's float32 and bfloat16, every n, including cuRAND's approximate sine and
/// cosine unit (cuda_math.h). Checked against torch 2.11+cu130 on an H200 up to n = 1,000,003. GPUs
/// of other architectures are unchecked: their sine unit may differ by 4e-7 of the radius.
class TorchCudaGenerator {
 public:
  /// Throws kInvalidArgument if the shape does not hold one block of 256 threads.
  explicit TorchCudaGenerator(uint64_t seed, CudaDeviceShape device = {});

  /// As TorchCpuGenerator::randn.
  std::vector<float> randn(int64_t count, NoiseDType dtype);

 private:
  uint64_t seed_;
  int64_t max_blocks_;
  uint64_t next_counter_ = 0;  // PyTorch's philox offset / 4
};

}  // namespace dither::schedulers
