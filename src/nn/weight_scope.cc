#include "nn/weight_scope.h"

#include <cstring>
#include <utility>

namespace dither::nn {
namespace {

/// [N, C, k...] as [N, k... C], in host memory; a view where there is one tap.
Tensor as_patch_rows(const Tensor& weight) {
  const std::int64_t rows = weight.dim(0);
  const std::int64_t channels = weight.dim(1);
  const std::int64_t taps = weight.elements() / (rows * channels);
  if (taps == 1) return weight.reshape({rows, channels});
  Tensor result = Tensor::host({rows, taps * channels}, weight.dtype());
  const auto element = static_cast<std::size_t>(dtype_bits(weight.dtype()) / 8);
  const std::byte* from = weight.raw();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t channel = 0; channel < channels; ++channel) {
      for (std::int64_t tap = 0; tap < taps; ++tap, from += element) {
        const std::int64_t index = (row * taps + tap) * channels + channel;
        std::memcpy(result.raw() + static_cast<std::size_t>(index) * element, from, element);
      }
    }
  }
  return result;
}

}  // namespace

WeightScope WeightScope::operator/(std::string_view name) const {
  WeightScope scope = *this;
  scope.prefix_ = join(name);
  return scope;
}

WeightScope WeightScope::operator/(int index) const { return *this / std::to_string(index); }

WeightScope WeightScope::with_dtype(DType dtype) const {
  WeightScope scope = *this;
  scope.dtype_ = dtype;
  return scope;
}

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
  if (linear.weight.rank() > 2) linear.weight = as_patch_rows(linear.weight);
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
