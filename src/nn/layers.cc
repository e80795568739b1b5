#include "nn/layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"

namespace dither::nn {
namespace {

std::string_view format_of(const quant::LinearWeight& weight) {
  if (weight.weight.dtype() != DType::kF8E4M3) return "16-bit";
  return weight.input_scale ? "FP8" : "weight-only FP8";
}

/// Weights executed as one product need one format, and one scale for the input that they share:
/// the largest, which covers what any of them saw in calibration. Every weight keeps its
/// weight_scale.
void unify(std::vector<quant::LinearWeight>& weights) {
  float input_scale = 0;
  for (const quant::LinearWeight& weight : weights) {
    if (format_of(weight) != format_of(weights.front())) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("'{}' is {}, but '{}', which is multiplied with it, is {}",
                              weights.front().name, format_of(weights.front()), weight.name,
                              format_of(weight)));
    }
    input_scale = std::max(input_scale, weight.input_scale.value_or(0));
  }
  for (quant::LinearWeight& weight : weights) {
    if (weight.input_scale) weight.input_scale = input_scale;
  }
}

ops::LinearShard shard_of(const quant::LinearWeight& weight, const WeightScope& scope) {
  return {.name = weight.name,
          .weight = weight.weight,
          .bias = scope.has("bias") ? scope.host("bias") : Tensor(),
          .weight_scale = weight.weight_scale,
          .input_scale = weight.input_scale,
          .row_exponents = weight.row_exponents,
          .component = scope.component()};
}

}  // namespace

Linear::Linear(std::initializer_list<WeightScope> scopes) {
  const WeightScope& first = *scopes.begin();
  std::vector<quant::LinearWeight> weights;
  std::vector<Tensor> stored;
  for (const WeightScope& scope : scopes) {
    weights.push_back(scope.linear_weight());
    stored.push_back(weights.back().weight);
  }
  unify(weights);
  quant::apply_policy(first.policy(), weights);
  std::vector<ops::LinearShard> shards;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    shards.push_back(shard_of(weights[i], scopes.begin()[i]));
  }
  backend_ = &first.backend();
  weights_ = backend_->prepare_linear(shards, first.dtype());
  first.record(*weights_, weights);
  for (const Tensor& tensor : stored) first.release(tensor);
}

std::optional<float> Linear::codes() const {
  const auto input = weights_->e4m3_input();
  if (!input || backend_->linear_probe() != nullptr) return std::nullopt;
  return input->scale;
}

Conv2d::Conv2d(const WeightScope& scope, int stride, std::array<int, 4> padding, bool upsamples) {
  ops::Conv2dWeights weights{scope.name(), scope.host("weight"), {}, stride, padding, upsamples};
  if (scope.has("bias")) weights.bias = scope.host("bias");
  weights_ = scope.backend().prepare_conv2d(weights, scope.dtype());
  scope.release(weights.weight);
}

Conv2d Conv2d::same(const WeightScope& scope, int kernel) {
  const int pad = kernel / 2;
  return {scope, 1, {pad, pad, pad, pad}};
}

Conv2d Conv2d::upsampled(const WeightScope& scope, int kernel) {
  const int pad = kernel / 2;
  return {scope, 1, {pad, pad, pad, pad}, true};
}

Conv3d::Conv3d(const WeightScope& scope, int stride_t) {
  ops::Conv3dWeights weights;
  weights.name = scope.name();
  weights.weight = scope.host("weight");
  if (scope.has("bias")) weights.bias = scope.host("bias");
  weights.stride_t = stride_t;
  const auto pad_h = static_cast<int>(weights.weight.dim(3) / 2);
  const auto pad_w = static_cast<int>(weights.weight.dim(4) / 2);
  weights.padding = {pad_h, pad_w, pad_h, pad_w};
  weights_ = scope.backend().prepare_conv3d(weights, scope.dtype());
  scope.release(weights.weight);
}

}  // namespace dither::nn
