#include "nn/layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"

namespace dither::nn {
namespace {

std::string_view format_of(const ops::LinearShard& shard) {
  if (shard.weight.dtype() != DType::kF8E4M3) return "16-bit";
  return shard.input_scale ? "FP8" : "weight-only FP8";
}

/// Shards executed as one product need one format, and one scale for the input that they share: the
/// largest, which covers what any of them saw in calibration. Every shard keeps its weight_scale.
void unify(std::vector<ops::LinearShard>& shards) {
  std::optional<float> input_scale;
  for (const ops::LinearShard& shard : shards) {
    if (format_of(shard) != format_of(shards.front())) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("'{}' is {}, but '{}', which is multiplied with it, is {}",
                              shards.front().name, format_of(shards.front()), shard.name,
                              format_of(shard)));
    }
    if (shard.input_scale) input_scale = std::max(input_scale.value_or(0), *shard.input_scale);
  }
  for (ops::LinearShard& shard : shards) shard.input_scale = input_scale;
}

}  // namespace

Linear::Linear(std::initializer_list<WeightScope> scopes) {
  std::vector<ops::LinearShard> shards;
  for (const WeightScope& scope : scopes) shards.push_back(scope.linear_shard());
  unify(shards);
  const WeightScope& first = *scopes.begin();
  backend_ = &first.backend();
  weights_ = backend_->prepare_linear(shards, first.dtype());
  first.record(*weights_);
  for (const ops::LinearShard& shard : shards) first.release(shard.weight);
}

std::optional<float> Linear::codes() const {
  const auto input = weights_->e4m3_input();
  if (!input || backend_->linear_probe() != nullptr) return std::nullopt;
  return input->scale;
}

Conv2d::Conv2d(const WeightScope& scope, int stride, std::array<int, 4> padding) {
  ops::Conv2dWeights weights{scope.name(), scope.host("weight"), {}, stride, padding};
  if (scope.has("bias")) weights.bias = scope.host("bias");
  weights_ = scope.backend().prepare_conv2d(weights, scope.dtype());
  scope.release(weights.weight);
}

Conv2d Conv2d::same(const WeightScope& scope, int kernel) {
  const int pad = kernel / 2;
  return {scope, 1, {pad, pad, pad, pad}};
}

}  // namespace dither::nn
