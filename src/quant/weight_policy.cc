#include "quant/weight_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "quant/e4m3_weight.h"
#include "tensor/host_floats.h"

namespace dither::quant {
namespace {

bool is_weight_only_fp8(const LinearWeight& weight) {
  return weight.weight.dtype() == DType::kF8E4M3 && !weight.input_scale;
}

bool is_nvfp4(const LinearWeight& weight) { return weight.format == Format::kNvfp4; }

bool is_plain(const LinearWeight& weight) {
  return weight.format == Format::kNone && is_floating(weight.weight.dtype()) &&
         !weight.left_16_bit;
}

E4m3Weight encode(const LinearWeight& weight, E4m3Scaling scaling, float unit = 1) {
  try {
    return to_e4m3_weight(weight.weight, scaling, unit);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("'{}.weight': {}", weight.name, error.what()));
  }
}

void expand(LinearWeight& weight) {
  weight.weight =
      expand_e4m3_weight(weight.weight, weight.weight_scale.value_or(1), weight.row_exponents);
  weight.weight_scale.reset();
  weight.row_exponents.clear();
}

/// w = e2m1 * e4m3 * weight_scale_2, the first two factors multiplied exactly. With the unit 1
/// those with 1/2, 1, 2 or 4 for e2m1 are E4M3 numbers and keep all their digits, with the unit 3/2
/// those with 3/2, 3 or 6: the better one is taken, mostly the second, since the largest of a block
/// is 6.
void nvfp4_to_fp8(LinearWeight& weight, bool multiply_in_fp8) {
  constexpr float kLargestE2M1 = 6;
  float unit = 1.5F;
  E4m3Weight made = encode(weight, E4m3Scaling::kTensor, unit);
  if (E4m3Weight other = encode(weight, E4m3Scaling::kTensor);
      other.relative_error < made.relative_error) {
    made = std::move(other);
    unit = 1;
  }
  weight.weight = std::move(made.codes);
  weight.weight_scale = std::ldexp(weight.weight_scale.value_or(1) * unit, made.exponents.front());
  weight.weight_error = made.relative_error;
  if (multiply_in_fp8) {
    weight.input_scale = *weight.input_scale * kLargestE2M1;
  } else {
    weight.input_scale.reset();
  }
}

void plain_to_fp8(LinearWeight& weight) {
  E4m3Weight made = encode(weight, E4m3Scaling::kRow);
  weight.weight = std::move(made.codes);
  weight.row_exponents = std::move(made.exponents);
  weight.weight_error = made.relative_error;
}

}  // namespace

void apply_policy(const WeightPolicy& policy, std::span<LinearWeight> weights) {
  const bool nvfp4 = std::ranges::all_of(weights, is_nvfp4);
  if (nvfp4 && policy.nvfp4_as_fp8) {
    const bool calibrated = std::ranges::all_of(
        weights, [](const LinearWeight& weight) { return weight.input_scale.has_value(); });
    for (LinearWeight& weight : weights) nvfp4_to_fp8(weight, calibrated);
  } else if (policy.plain_as_fp8 && std::ranges::all_of(weights, is_plain)) {
    for (LinearWeight& weight : weights) plain_to_fp8(weight);
  } else {
    for (LinearWeight& weight : weights) {
      if (is_nvfp4(weight)) weight.input_scale.reset();
      if (is_weight_only_fp8(weight) && !policy.keep_fp8) expand(weight);
    }
  }
}

}  // namespace dither::quant
