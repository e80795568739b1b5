#include "ops/linear_group.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "quant/fp8.h"

namespace dither::ops {
namespace {

bool runs_in_fp8(const LinearShard& shard) {
  return shard.weight.dtype() == DType::kF8E4M3 && shard.input_scale.has_value();
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

std::string_view format_of(const LinearShard& shard) {
  if (runs_in_fp8(shard)) return "E4M3 with an input_scale";
  return shard.weight.dtype() == DType::kF8E4M3 ? "E4M3 without an input_scale"
                                                : dtype_name(shard.weight.dtype());
}

void check_together(const LinearShard& first, const LinearShard& other) {
  if (runs_in_fp8(first) != runs_in_fp8(other)) {
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
  if (runs_in_fp8(first)) group.input_scale = first.input_scale;
  bool scaled = false;
  for (const LinearShard& shard : shards) {
    check_shape(shard, group.k);
    check_scales(shard);
    check_together(first, shard);
    const bool folded = shard.weight.dtype() == DType::kF8E4M3 && !group.input_scale;
    const float scale = folded ? 1.0F : shard.weight_scale.value_or(1.0F);
    scaled = scaled || group.input_scale || scale != 1.0F;
    group.n += shard.weight.dim(0);
    group.scales.resize(static_cast<std::size_t>(group.n), group.input_scale.value_or(1) * scale);
  }
  if (!scaled) group.scales.clear();
  return group;
}

Tensor dequantized(const LinearShard& shard) {
  if (shard.weight.dtype() != DType::kF8E4M3) return shard.weight;
  Tensor result = Tensor::host(shard.weight.shape(), DType::kF32);
  for (std::int64_t row = 0; row < result.dim(0); ++row) {
    const auto k = static_cast<std::size_t>(result.dim(1));
    const Tensor codes = shard.weight.slice(0, row, row + 1);
    quant::dequantize_e4m3({reinterpret_cast<const std::uint8_t*>(codes.raw()), k},
                           shard.weight_scale.value_or(1),
                           {result.slice(0, row, row + 1).data<float>(), k});
  }
  return result;
}

std::vector<LinearPrecision> precision_of(std::span<const LinearShard> shards,
                                          const LinearGroup& group, DType resident, DType product,
                                          std::string_view kernel) {
  std::vector<LinearPrecision> records;
  for (const LinearShard& shard : shards) {
    records.push_back({shard.name, shard.weight.dtype(), resident, product, std::string(kernel),
                       shard.weight_scale, group.input_scale});
  }
  return records;
}

}  // namespace dither::ops
