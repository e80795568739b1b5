#include "ops/linear_group.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace dither::ops {
namespace {

bool has_codes(const LinearShard& shard) { return shard.weight.dtype() == DType::kF8E4M3; }

bool runs_in_fp8(const LinearShard& shard) {
  return has_codes(shard) && shard.input_scale.has_value();
}

void check_shape(const LinearShard& shard, std::int64_t k) {
  const bool bias_fits = !shard.bias.defined() || shard.bias.shape() == Shape{shard.weight.dim(0)};
  if (shard.weight.rank() == 2 && shard.weight.dim(1) == k && bias_fits) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("linear: '{}' has weight {} and bias {}, expected [N, {}] and [N]",
                          shard.name, to_string(shard.weight), to_string(shard.bias), k));
}

void check_scale(const LinearShard& shard, std::string_view which, float scale) {
  if (std::isfinite(scale) && scale > 0) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("linear: '{}' has {} {}, expected a positive finite number", shard.name,
                          which, scale));
}

void check_scales(const LinearShard& shard) {
  if (shard.weight_scale) check_scale(shard, "weight_scale", *shard.weight_scale);
  if (!runs_in_fp8(shard)) return;
  check_scale(shard, "input_scale", *shard.input_scale);
  check_scale(shard, "a reciprocal of input_scale,", 1 / *shard.input_scale);
  if (!shard.weight_scale) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("linear: '{}' has E4M3 codes and an input_scale, but no weight_scale",
                            shard.name));
  }
}

void check_row_exponents(const LinearShard& shard) {
  const std::size_t count = shard.row_exponents.size();
  if (count == 0) return;
  if (has_codes(shard) && !runs_in_fp8(shard) &&
      static_cast<std::int64_t>(count) == shard.weight.dim(0)) {
    return;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("linear: '{}' {} has {} row_exponents, which only weight-only E4M3 has, "
                          "one per row",
                          shard.name, to_string(shard.weight), count));
}

std::string_view format_of(const LinearShard& shard) {
  if (runs_in_fp8(shard)) return "E4M3 with an input_scale";
  return has_codes(shard) ? "E4M3 without an input_scale" : dtype_name(shard.weight.dtype());
}

void check_together(const LinearShard& first, const LinearShard& other) {
  if (runs_in_fp8(first) != runs_in_fp8(other) || has_codes(first) != has_codes(other)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("linear: '{}' is {}, '{}' is {}: they cannot be one product",
                            first.name, format_of(first), other.name, format_of(other)));
  }
  if (runs_in_fp8(first) && first.input_scale != other.input_scale) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("linear: '{}' has input_scale {}, '{}' has {}: their input is "
                            "quantized once",
                            first.name, *first.input_scale, other.name, *other.input_scale));
  }
}

}  // namespace

LinearGroup group_shards(std::span<const LinearShard> shards) {
  if (shards.empty()) throw Error(ErrorCode::kInvalidArgument, "linear: no weights");
  const LinearShard& first = shards.front();
  LinearGroup group;
  group.k = first.weight.dim(-1);
  group.codes = has_codes(first);
  if (runs_in_fp8(first)) group.input_scale = first.input_scale;
  bool scaled = false;
  for (const LinearShard& shard : shards) {
    check_shape(shard, group.k);
    check_scales(shard);
    check_row_exponents(shard);
    check_together(first, shard);
    const float scale = shard.weight_scale.value_or(1.0F);
    scaled = scaled || group.input_scale || scale != 1.0F || !shard.row_exponents.empty();
    group.n += shard.weight.dim(0);
    for (const std::int8_t exponent : shard.row_exponents) {
      group.scales.push_back(std::ldexp(scale, exponent));
    }
    group.scales.resize(static_cast<std::size_t>(group.n), group.input_scale.value_or(1) * scale);
  }
  if (!scaled) group.scales.clear();
  return group;
}

std::vector<LinearPrecision> precision_of(std::span<const LinearShard> shards,
                                          const LinearGroup& group, DType resident, DType product,
                                          std::string_view kernel) {
  std::vector<LinearPrecision> records;
  for (const LinearShard& shard : shards) {
    records.push_back({shard.name, shard.weight.dtype(), resident, product, std::string(kernel),
                       shard.weight_scale, group.input_scale});
    records.back().component = shard.component;
  }
  return records;
}

}  // namespace dither::ops
