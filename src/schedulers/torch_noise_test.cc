#include "schedulers/torch_noise.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <numeric>

#include "base/error.h"
#include "schedulers/test_safetensors.h"

namespace dither::schedulers {
namespace {

using ::testing::TestWithParam;
using ::testing::Values;

const std::string kGolden = DITHER_SOURCE_DIR "/tests/golden/";

std::vector<uint32_t> bits(const std::vector<float>& values) {
  std::vector<uint32_t> result;
  for (const float value : values) result.push_back(std::bit_cast<uint32_t>(value));
  return result;
}

// The checksum of tests/golden/make_randn_checksums.py.
std::string checksum(const std::vector<float>& values, NoiseDType dtype) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const float value : values) {
    const uint32_t word = std::bit_cast<uint32_t>(value);
    hash = (hash ^ (dtype == NoiseDType::kBF16 ? word >> 16 : word)) * 0x100000001B3;
  }
  return fmt::format("{:016x}", hash);
}

template <typename Generator>
std::vector<float> draws_of(Generator generator, const std::vector<int64_t>& counts,
                            NoiseDType dtype) {
  std::vector<float> all;
  for (const int64_t count : counts) {
    const auto values = generator.randn(count, dtype);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

struct GoldenFile {
  const char* name;
  const char* device;
  CpuBf16Noise bf16_noise;
};

std::ostream& operator<<(std::ostream& out, const GoldenFile& file) {
  return out << file.name << " " << file.device;
}

class RandnGolden : public TestWithParam<GoldenFile> {};

// tests/golden/make_randn.py: <device>.<dtype>.seed<seed>.<n<count> | two_draws_of_100>.
TEST_P(RandnGolden, EqualsTorchBitForBit) {
  const auto golden = read_golden_tensors(kGolden + GetParam().name);
  const std::string device = GetParam().device;
  int compared = 0;
  for (const std::string dtype_name : {"f32", "bf16"}) {
    const auto dtype = dtype_name == "f32" ? NoiseDType::kF32 : NoiseDType::kBF16;
    for (const uint64_t seed : {0U, 1U, 42U}) {
      const std::string prefix = fmt::format("{}.{}.seed{}.", device, dtype_name, seed);
      const auto compare = [&](const std::string& key, const std::vector<int64_t>& counts) {
        const auto ours = device == "cpu" ? draws_of(TorchCpuGenerator(seed, GetParam().bf16_noise),
                                                     counts, dtype)
                                          : draws_of(TorchCudaGenerator(seed), counts, dtype);
        EXPECT_EQ(bits(ours), bits(golden.at(prefix + key))) << prefix + key;
        ++compared;
      };
      for (const int64_t n : {8, 16, 17, 100, 1024}) compare(fmt::format("n{}", n), {n});
      compare("two_draws_of_100", {100, 100});
    }
  }
  EXPECT_EQ(compared, 36);
}

INSTANTIATE_TEST_SUITE_P(
    Table, RandnGolden,
    Values(GoldenFile{"randn_torch2.14_cpu.safetensors", "cpu", CpuBf16Noise::kRoundedF32},
           GoldenFile{"randn_torch2.11_h200.safetensors", "cpu", CpuBf16Noise::kCoarse},
           GoldenFile{"randn_torch2.11_h200.safetensors", "cuda", {}}));

template <typename Generator>
void expect_checksums(const std::string& file) {
  std::ifstream lines(kGolden + file);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line)) << file;  // versions
  std::string dtype_name;
  std::string expected;
  uint64_t seed = 0;
  int64_t count = 0;
  while (lines >> dtype_name >> seed >> count >> expected) {
    const auto dtype = dtype_name == "f32" ? NoiseDType::kF32 : NoiseDType::kBF16;
    EXPECT_EQ(checksum(Generator(seed).randn(count, dtype), dtype), expected)
        << dtype_name << " seed " << seed << " n " << count;
  }
  EXPECT_TRUE(lines.eof());
  EXPECT_EQ(count, 1000003);
}

TEST(TorchCpuGenerator, EqualsTorchAtEverySize) {
  expect_checksums<TorchCpuGenerator>("randn_checksums_torch2.15_cpu.txt");
}

// 524288 and 1000003 exceed the grid of an H200: threads take further turns.
TEST(TorchCudaGenerator, EqualsAnH200AtLargeSizes) {
  expect_checksums<TorchCudaGenerator>("randn_checksums_torch2.11_h200.txt");
}

// Checksums of the draws whose bytes have SHA-256 93d46b46e16589c4... and a66db70354aff53f... under
// torch 2.11.
TEST(TorchCpuGenerator, EqualsTorch2_11LatentsInBf16) {
  const auto draw = [](int64_t count) {
    TorchCpuGenerator generator(42, CpuBf16Noise::kCoarse);
    return checksum(generator.randn(count, NoiseDType::kBF16), NoiseDType::kBF16);
  };
  EXPECT_EQ(draw(16 * 128 * 128), "1f48b234e3469f30");
  EXPECT_EQ(draw(128 * 64 * 64), "0c64bb74dd95e8c4");
}

// Fewer than 16 values come in pairs; the second waits in the generator, past larger draws too.
TEST(TorchCpuGenerator, KeepsTheSpareOfAPair) {
  TorchCpuGenerator pairwise(7);
  const auto pair = pairwise.randn(2, NoiseDType::kF32);

  TorchCpuGenerator single(7);
  EXPECT_EQ(single.randn(1, NoiseDType::kF32), std::vector<float>{pair[0]});
  single.randn(32, NoiseDType::kF32);
  EXPECT_EQ(single.randn(1, NoiseDType::kF32), std::vector<float>{pair[1]});
}

// Above 108 x 8 blocks of 256 an A100 starts its second turn where an H200 does not.
TEST(TorchCudaGenerator, DependsOnTheGpuOnlyAboveItsGrid) {
  constexpr CudaDeviceShape kA100{.multiprocessor_count = 108,
                                  .max_threads_per_multiprocessor = 2048};
  const auto draw = [](CudaDeviceShape shape, int64_t count) {
    return TorchCudaGenerator(1, shape).randn(count, NoiseDType::kF32);
  };
  EXPECT_EQ(draw(kA100, 221184), draw({}, 221184));
  EXPECT_NE(draw(kA100, 221185), draw({}, 221185));
}

TEST(TorchGenerators, AreStandardNormal) {
  const auto expect_moments = [](const std::vector<float>& values) {
    const auto n = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    const double square = std::inner_product(values.begin(), values.end(), values.begin(), 0.0) / n;
    EXPECT_NEAR(mean, 0.0, 5 / std::sqrt(n));
    EXPECT_NEAR(square, 1.0, 5 * std::sqrt(2 / n));
  };
  expect_moments(TorchCpuGenerator(3).randn(1 << 18, NoiseDType::kF32));
  expect_moments(TorchCudaGenerator(3).randn(1 << 18, NoiseDType::kF32));
}

TEST(TorchGenerators, RefuseNegativeCountsAndTinyGpus) {
  EXPECT_THROW(TorchCpuGenerator(0).randn(-1, NoiseDType::kF32), Error);
  EXPECT_THROW(TorchCudaGenerator(0).randn(-1, NoiseDType::kF32), Error);
  EXPECT_THROW(TorchCudaGenerator(0, {.multiprocessor_count = 0}), Error);
  EXPECT_THROW(TorchCudaGenerator(0, {.multiprocessor_count = -1}), Error);
  EXPECT_THROW(TorchCudaGenerator(0, {.max_threads_per_multiprocessor = 255}), Error);
  EXPECT_TRUE(TorchCpuGenerator(0).randn(0, NoiseDType::kF32).empty());
  EXPECT_TRUE(TorchCudaGenerator(0).randn(0, NoiseDType::kF32).empty());
}

}  // namespace
}  // namespace dither::schedulers
