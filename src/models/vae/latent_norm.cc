#include "models/vae/latent_norm.h"

#include <cmath>
#include <vector>

#include "nn/multiply.h"
#include "ops/ops.h"
#include "tensor/host_floats.h"

namespace dither::models {
namespace {

/// x * row, row [C] over x [B, L, C].
Tensor scale_rows(const Tensor& x, const Tensor& row) {
  return nn::multiply({x, ops::add(ops::affine(x, 0, 0), row)});
}

std::vector<float> floats(const Tensor& host) {
  std::vector<float> values(static_cast<std::size_t>(host.elements()));
  read_floats(host, 0, values);
  return values;
}

}  // namespace

LatentNorm::LatentNorm(const nn::WeightScope& scope, double eps) {
  const std::vector<float> mean = floats(scope.host("running_mean"));
  const std::vector<float> variance = floats(scope.host("running_var"));
  const auto upload = [&](const auto& value_of) {
    const Tensor row = Tensor::host({static_cast<std::int64_t>(mean.size())}, DType::kF32);
    for (std::size_t i = 0; i < mean.size(); ++i) row.data<float>()[i] = value_of(i);
    return scope.backend().upload(row, scope.dtype());
  };
  const auto std = [&](std::size_t i) { return std::sqrt(variance[i] + static_cast<float>(eps)); };
  mean_ = upload([&](std::size_t i) { return mean[i]; });
  negative_mean_ = upload([&](std::size_t i) { return -mean[i]; });
  std_ = upload(std);
  inverse_std_ = upload([&](std::size_t i) { return 1.0F / std(i); });
}

Tensor LatentNorm::denormalize(const Tensor& tokens) const {
  return ops::add(scale_rows(tokens, std_), mean_);
}

Tensor LatentNorm::normalize(const Tensor& tokens) const {
  return scale_rows(ops::add(tokens, negative_mean_), inverse_std_);
}

nn::TensorTable flux2_vae_table(const AutoencoderKlConfig& config, const TensorSource& source) {
  nn::TensorTable table = autoencoder_kl_table(config, source);
  for (const char* name : {"bn.running_mean", "bn.running_var"}) {
    table.add(name, {4 * config.latent_channels});
  }
  table.ignore("bn.num_batches_tracked");
  return table;
}

}  // namespace dither::models
