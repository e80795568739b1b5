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

quant::LinearWeight WeightScope::linear_weight() const {
  if (weights_ != nullptr && weights_->find_layer(prefix_) != nullptr) {
    return weights_->linear(prefix_);
  }
  quant::LinearWeight linear{.weight = host("weight"), .name = prefix_};
  if (linear.weight.rank() == 4 && linear.weight.dim(2) == 1 && linear.weight.dim(3) == 1) {
    linear.weight = linear.weight.reshape({linear.weight.dim(0), linear.weight.dim(1)});
  }
  return linear;
}

void WeightScope::record(const ops::PreparedLinear& prepared,
                         std::span<const quant::LinearWeight> weights) const {
  if (precision_ == nullptr) return;
  for (std::size_t i = 0; i < prepared.precision().size(); ++i) {
    precision_->push_back(prepared.precision()[i]);
    precision_->back().weight_error = weights[i].weight_error;
  }
}

std::string WeightScope::join(std::string_view leaf) const {
  if (prefix_.empty()) return std::string(leaf);
  std::string joined = prefix_;
  joined += '.';
  joined += leaf;
  return joined;
}

}  // namespace dither::nn
