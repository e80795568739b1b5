#include "schedulers/torch_noise.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "schedulers/box_muller.h"
#include "schedulers/cuda_math.h"
#include "schedulers/rounding.h"

namespace dither::schedulers {
namespace {

constexpr int64_t kGroup = 16;      // PyTorch's CPU kernel transforms 16 values at a time
constexpr int kBlockThreads = 256;  // of PyTorch's CUDA kernel

void check_count(int64_t count) {
  if (count < 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("randn: cannot draw {} values", count));
  }
}

void round_all_to_bf16(std::vector<float>& values) {
  for (float& value : values) value = round_to_bf16(value);
}

// box_muller_groups_of_16 for one group with every operation rounded to bfloat16 (PyTorch <= 2.11).
void box_muller_coarse(float* values) {
  for (int j = 0; j < kGroup / 2; ++j) {
    const float log = round_to_bf16(std::log(round_to_bf16(1.0F - values[j])));
    const float radius = round_to_bf16(std::sqrt(-2.0F * log));
    const double exact_theta = 2.0 * std::numbers::pi * static_cast<double>(values[j + 8]);
    const float theta = round_to_bf16(static_cast<float>(exact_theta));
    // + 0 is PyTorch's mean: it turns -0 into 0.
    values[j] = round_to_bf16(radius * round_to_bf16(std::cos(theta))) + 0.0F;
    values[j + 8] = round_to_bf16(radius * round_to_bf16(std::sin(theta))) + 0.0F;
  }
}

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t seed) {
  auto key0 = static_cast<uint32_t>(seed);
  auto key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

// cuRAND's Box-Muller of two 32-bit words.
struct NormalPair {
  float first;
  float second;
};

NormalPair cuda_box_muller(uint32_t x, uint32_t y) {
  constexpr float kTwoPi = 6.2831855F;
  const float u = std::fma(static_cast<float>(x), 0x1p-32F, 0x1p-33F);
  const float v = std::fma(static_cast<float>(y), 0x1p-32F * kTwoPi, 0x1p-33F * kTwoPi);
  const float radius = std::sqrt(-2.0F * cuda_log(u));
  const auto [sin, cos] = cuda_fast_sincos(v);
  return {radius * sin + 0.0F, radius * cos + 0.0F};
}

}  // namespace

void TorchCpuGenerator::fill_uniform(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(static_cast<uint32_t>(engine_()) & 0xFFFFFFU) * 0x1p-24F;
  }
}

void TorchCpuGenerator::fill_uniform_coarse(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(static_cast<uint32_t>(engine_()) & 0xFFU) * 0x1p-8F;
  }
}

double TorchCpuGenerator::next_normal() {
  if (spare_normal_) {
    const double value = *spare_normal_;
    spare_normal_.reset();
    return value;
  }
  const auto uniform = [this] {
    const uint64_t high = engine_();
    const uint64_t bits = (high << 32) | engine_();
    return static_cast<double>(bits & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
  };
  const double angle = 2.0 * std::numbers::pi * uniform();
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  spare_normal_ = radius * std::sin(angle);
  return radius * std::cos(angle);
}

std::vector<float> TorchCpuGenerator::randn(int64_t count, NoiseDType dtype) {
  check_count(count);
  std::vector<float> values(static_cast<size_t>(count));
  const bool bf16 = dtype == NoiseDType::kBF16;
  if (count < kGroup) {
    for (float& value : values) value = static_cast<float>(next_normal());
    if (bf16) round_all_to_bf16(values);
    return values;
  }

  const bool coarse = bf16 && bf16_noise_ == CpuBf16Noise::kCoarse;
  const int64_t groups = count / kGroup;
  const int64_t rest = count % kGroup;
  float* const last_group = values.data() + (count - kGroup);
  if (coarse) {
    fill_uniform_coarse(values.data(), count);
    for (int64_t i = 0; i < groups; ++i) box_muller_coarse(values.data() + i * kGroup);
    if (rest != 0) {
      fill_uniform_coarse(last_group, kGroup);
      box_muller_coarse(last_group);
    }
    return values;
  }
  // The float32 kernel draws a uniform for every value before it discards those of the rest; the
  // bfloat16 kernel draws whole groups only.
  fill_uniform(values.data(), bf16 ? groups * kGroup : count);
  box_muller_groups_of_16(values.data(), groups);
  if (rest != 0) {
    fill_uniform(last_group, kGroup);
    box_muller_groups_of_16(last_group, 1);
  }
  if (bf16) round_all_to_bf16(values);
  return values;
}

TorchCudaGenerator::TorchCudaGenerator(uint64_t seed, CudaDeviceShape device)
    : seed_(seed),
      max_blocks_(int64_t{device.multiprocessor_count} *
                  (device.max_threads_per_multiprocessor / kBlockThreads)) {
  if (device.multiprocessor_count < 1 || max_blocks_ < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("noise of a GPU with {} multiprocessors of {} threads: need at least 1 "
                            "of {}",
                            device.multiprocessor_count, device.max_threads_per_multiprocessor,
                            kBlockThreads));
  }
}

// Thread t draws four values per turn; value i of a turn goes `threads` further than value i - 1,
// so that neighbouring threads write neighbouring elements.
std::vector<float> TorchCudaGenerator::randn(int64_t count, NoiseDType dtype) {
  check_count(count);
  std::vector<float> values(static_cast<size_t>(count));
  const int64_t blocks = std::min((count + kBlockThreads - 1) / kBlockThreads, max_blocks_);
  const int64_t threads = blocks * kBlockThreads;
  for (int64_t begin = 0; begin < count; begin += 4 * threads, ++next_counter_) {
    float* const turn = values.data() + begin;
    const int64_t left = count - begin;
    for (int64_t t = 0; t < std::min(threads, left); ++t) {
      const auto words =
          philox({static_cast<uint32_t>(next_counter_), static_cast<uint32_t>(next_counter_ >> 32),
                  static_cast<uint32_t>(t), static_cast<uint32_t>(t >> 32)},
                 seed_);
      for (int64_t pair = 0; pair < 2; ++pair) {
        const int64_t first = t + 2 * pair * threads;
        const int64_t second = first + threads;
        if (first >= left) break;
        const auto word = static_cast<size_t>(2 * pair);
        const NormalPair normal = cuda_box_muller(words[word], words[word + 1]);
        turn[first] = normal.first;
        if (second < left) turn[second] = normal.second;
      }
    }
  }
  if (dtype == NoiseDType::kBF16) round_all_to_bf16(values);
  return values;
}

}  // namespace dither::schedulers
