#include "quant/e4m3_weight.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <thread>

#include "base/error.h"
#include "tensor/float8.h"
#include "tensor/host_floats.h"

namespace dither::quant {
namespace {

constexpr int kLeastExponent = -100;
constexpr int kLargestExponent = 118;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// f(begin, end) over parts of [0, rows). What it throws for the first of them is thrown here.
template <typename F>
void each_part(std::int64_t rows, std::int64_t cols, const F& f) {
  constexpr std::int64_t kWorthAThread = std::int64_t{1} << 20;
  const std::int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  const std::int64_t parts = std::clamp<std::int64_t>(
      rows * cols / kWorthAThread, 1, std::min(threads, std::max<std::int64_t>(rows, 1)));
  std::vector<std::future<void>> running;
  for (std::int64_t part = 1; part < parts; ++part) {
    running.push_back(
        std::async(std::launch::async, f, rows * part / parts, rows * (part + 1) / parts));
  }
  f(std::int64_t{0}, rows / parts);
  for (std::future<void>& other : running) other.get();
}

float finite_amax(std::span<const float> row, std::int64_t n) {
  float largest = 0;
  for (std::size_t k = 0; k < row.size(); ++k) {
    if (!std::isfinite(row[k])) {
      throw Error(ErrorCode::kDataLoss, fmt::format("row {}, column {} is {}", n, k, row[k]));
    }
    largest = std::max(largest, std::fabs(row[k]));
  }
  return largest;
}

struct Squares {
  double difference = 0;
  double whole = 0;
};

Squares encode_row(std::span<const float> row, float scale, std::uint8_t* codes) {
  const float reciprocal = 1 / scale;
  Squares sums;
  for (std::size_t k = 0; k < row.size(); ++k) {
    codes[k] = to_e4m3_saturated(row[k] * reciprocal);
    const double difference = double{kE4M3Values[codes[k]] * scale} - row[k];
    sums.difference += difference * difference;
    sums.whole += double{row[k]} * row[k];
  }
  return sums;
}

}  // namespace

int e4m3_exponent(float amax) {
  if (amax == 0) return 0;
  int exponent = 0;
  const float fraction = std::frexp(amax, &exponent);  // amax = fraction * 2^exponent, from 0.5
  constexpr int kLog2 = 9;                             // 448 = 0.875 * 2^9
  return std::clamp(fraction <= kE4M3Max / (1 << kLog2) ? exponent - kLog2 : exponent - kLog2 + 1,
                    kLeastExponent, kLargestExponent);
}

E4m3Weight to_e4m3_weight(const Tensor& weight, E4m3Scaling scaling, float unit) {
  const std::int64_t rows = weight.dim(0);
  const std::int64_t cols = weight.dim(1);
  std::vector<float> amax(at(rows));
  const auto each_row = [&](const auto& use) {
    each_part(rows, cols, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> row(at(cols));
      for (std::int64_t n = begin; n < end; ++n) {
        read_floats(weight, n * cols, row);
        use(row, n);
      }
    });
  };
  each_row(
      [&](const std::vector<float>& row, std::int64_t n) { amax[at(n)] = finite_amax(row, n); });
  if (scaling == E4m3Scaling::kTensor && rows > 0) amax = {std::ranges::max(amax)};

  E4m3Weight result{.codes = Tensor::host(weight.shape(), DType::kF8E4M3), .exponents = {}};
  for (const float largest : amax) {
    result.exponents.push_back(static_cast<std::int8_t>(e4m3_exponent(largest / unit)));
  }
  std::vector<Squares> squares(at(rows));  // added up in one order, whatever the threads
  auto* const codes = reinterpret_cast<std::uint8_t*>(result.codes.raw());
  each_row([&](const std::vector<float>& row, std::int64_t n) {
    const std::size_t shared = result.exponents.size() == 1 ? 0 : at(n);
    const float scale = std::ldexp(unit, result.exponents[shared]);
    squares[at(n)] = encode_row(row, scale, codes + n * cols);
  });
  Squares sums;
  for (const Squares& row : squares) {
    sums.difference += row.difference;
    sums.whole += row.whole;
  }
  if (sums.whole > 0) result.relative_error = std::sqrt(sums.difference / sums.whole);
  return result;
}

Tensor expand_e4m3_weight(const Tensor& codes, float scale,
                          std::span<const std::int8_t> row_exponents) {
  Tensor result = Tensor::host(codes.shape(), DType::kF32);
  const std::int64_t cols = codes.dim(1);
  for (std::int64_t n = 0; n < codes.dim(0); ++n) {
    const auto* const from = reinterpret_cast<const std::uint8_t*>(codes.raw()) + n * cols;
    float* const to = result.data<float>() + n * cols;
    const float factor = row_exponents.empty() ? scale : std::ldexp(scale, row_exponents[at(n)]);
    for (std::int64_t k = 0; k < cols; ++k) to[k] = kE4M3Values[from[k]] * factor;
  }
  return result;
}

}  // namespace dither::quant
