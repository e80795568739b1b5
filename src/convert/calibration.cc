#include "convert/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "io/untrusted_name.h"
#include "quant/fp8.h"
#include "tensor/float8.h"
#include "tensor/host_floats.h"

namespace dither::convert {
namespace {

constexpr std::string_view kWeightAmax = ".weight_quantizer._amax";
constexpr std::string_view kInputAmax = ".input_quantizer._amax";

/// Rows to compare, the first and the last among them.
std::vector<std::int64_t> sample_rows(std::int64_t rows) {
  constexpr std::int64_t kMaxRows = 8;
  const std::int64_t count = std::min(rows, kMaxRows);
  std::vector<std::int64_t> sample;
  for (std::int64_t i = 0; i < count; ++i) {
    sample.push_back(count == 1 ? 0 : i * (rows - 1) / (count - 1));
  }
  return sample;
}

std::vector<float> row(const Tensor& tensor, std::int64_t index) {
  std::vector<float> values(static_cast<std::size_t>(tensor.dim(1)));
  const std::int64_t begin = index * tensor.dim(1);
  if (tensor.dtype() == DType::kF8E4M3) {
    std::transform(tensor.data<std::uint8_t>() + begin,
                   tensor.data<std::uint8_t>() + begin + tensor.dim(1), values.begin(),
                   [](std::uint8_t code) { return kE4M3Values[code]; });
  } else {
    read_floats(tensor, begin, values);
  }
  return values;
}

/// Two roundings of one number, BF16's being the coarsest; F16 loses numbers below 2^-24.
bool same_number(float a, float b) {
  return std::fabs(a - b) <= 0x1p-7F * std::max(std::fabs(a), std::fabs(b)) + 0x1p-24F;
}

/// `code` is `x` rounded to E4M3, or its neighbour: ModelOpt rounds the quotient to 16 bits first.
/// Neighbours are at most |code| / 8 apart, subnormal ones 2^-9.
bool rounds_to(float x, float code) {
  return std::fabs(x - code) <= 1.5F * std::max(std::fabs(code) / 8, 0x1p-9F);
}

/// The same numbers in a few rows, up to a rounding to the coarser dtype.
bool same_weights(const Tensor& a, const Tensor& b) {
  return std::ranges::all_of(sample_rows(a.dim(0)), [&](std::int64_t index) {
    return std::ranges::equal(row(a, index), row(b, index), same_number);
  });
}

}  // namespace

Calibration::Calibration(const std::filesystem::path& path, float maxbound)
    : backbone_(ModelOptBackbone::open(path)), maxbound_(maxbound) {
  for (const TensorInfo& info : backbone_.tensors().tensors()) {
    const std::string_view name = info.name;
    if (name.ends_with(kWeightAmax)) {
      layers_[info.name.substr(0, name.size() - kWeightAmax.size())].weight = true;
    } else if (name.ends_with(kInputAmax)) {
      layers_[info.name.substr(0, name.size() - kInputAmax.size())].input = true;
    } else if (name.ends_with(".weight")) {
      has_weights_ = true;
    }
  }
}

CalibratedScale Calibration::scale(std::string_view layer, std::string_view quantizer) const {
  const std::string name = fmt::format("{}.{}._amax", layer, quantizer);
  const std::string what = fmt::format("{}: {}", description(), quote(name));
  const Tensor tensor = backbone_.tensors().read(name);
  if (tensor.elements() != 1 || !is_floating(tensor.dtype())) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{} is {}, expected one number", what, to_string(tensor)));
  }
  std::array<float, 1> amax{};
  read_floats(tensor, 0, amax);
  const float value = quant::fp8_scale(amax[0], what, maxbound_);
  if (value == 0 || !std::isfinite(value)) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: amax is {}: its {}th part is no float32",
                                                  what, amax[0], maxbound_));
  }
  return {value, amax[0] == 0};
}

std::string Calibration::difference(std::string_view layer, const Tensor& weight,
                                    std::optional<float> scale) const {
  if (!has_weights_) return {};
  const std::string name = fmt::format("{}.weight", layer);
  if (backbone_.tensors().find(name) == nullptr) return "the backbone does not have it";
  const Tensor other = backbone_.tensors().read(name);
  if (other.shape() != weight.shape()) {
    return fmt::format("its weight is {} in the backbone, {} here", to_string(other.shape()),
                       to_string(weight.shape()));
  }
  bool same = true;
  if (!is_floating(other.dtype())) {
    return {};  // compressed by ModelOpt: only the codes are left, in its own rounding
  } else if (weight.dtype() != DType::kF8E4M3) {
    same = same_weights(weight, other);
  } else if (scale) {
    same = std::ranges::all_of(sample_rows(weight.dim(0)), [&](std::int64_t index) {
      return std::ranges::equal(row(other, index), row(weight, index), rounds_to, [&](float x) {
        return std::clamp(x / *scale, -kE4M3Max, kE4M3Max);
      });
    });
  }
  return same ? "" : "its weight has other values in the backbone";
}

}  // namespace dither::convert
