#include "nn/weight_scope.h"

#include <utility>

namespace dither::nn {

WeightScope WeightScope::operator/(std::string_view name) const {
  WeightScope scope = *this;
  scope.prefix_ = join(name);
  return scope;
}

WeightScope WeightScope::operator/(int index) const { return *this / std::to_string(index); }

bool WeightScope::has(std::string_view leaf) const { return source_->find(join(leaf)) != nullptr; }

Tensor WeightScope::host(std::string_view leaf) const { return source_->read(join(leaf)); }

Tensor WeightScope::upload(std::string_view leaf) const {
  return backend_->upload(host(leaf), dtype_);
}

ops::LinearShard WeightScope::linear_shard() const {
  ops::LinearShard shard{.name = prefix_, .weight = {}, .bias = {}};
  if (has("bias")) shard.bias = host("bias");
  if (weights_ != nullptr && weights_->find_layer(prefix_) != nullptr) {
    quant::LinearWeight linear = weights_->linear(prefix_);
    shard.weight = std::move(linear.weight);
    shard.weight_scale = linear.weight_scale;
    shard.input_scale = linear.input_scale;
    return shard;
  }
  shard.weight = host("weight");
  if (shard.weight.rank() == 4 && shard.weight.dim(2) == 1 && shard.weight.dim(3) == 1) {
    shard.weight = shard.weight.reshape({shard.weight.dim(0), shard.weight.dim(1)});
  }
  return shard;
}

void WeightScope::record(const ops::PreparedLinear& prepared) const {
  if (precision_ == nullptr) return;
  const auto records = prepared.precision();
  precision_->insert(precision_->end(), records.begin(), records.end());
}

std::string WeightScope::join(std::string_view leaf) const {
  if (prefix_.empty()) return std::string(leaf);
  std::string joined = prefix_;
  joined += '.';
  joined += leaf;
  return joined;
}

}  // namespace dither::nn
