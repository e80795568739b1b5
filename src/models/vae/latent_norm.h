#pragma once

#include "models/vae/autoencoder_kl.h"
#include "nn/tensor_table.h"
#include "nn/weight_scope.h"

namespace dither::models {

/// FLUX.2's autoencoder knows no scale and shift but the statistics of a batch norm over packed
/// latents: of each of the 4 C channels of a token.
class LatentNorm {
 public:
  /// Binds "running_mean" and "running_var"; std = sqrt(running_var + eps).
  LatentNorm(const nn::WeightScope& scope, double eps);

  /// tokens * std + mean: what the decoder takes, once unpacked.  [B, L, 4 C].
  Tensor denormalize(const Tensor& tokens) const;
  /// The inverse, (tokens - mean) / std: what the transformer takes.
  Tensor normalize(const Tensor& tokens) const;

 private:
  Tensor mean_;           ///< [4 C]
  Tensor negative_mean_;  ///< [4 C]
  Tensor std_;            ///< [4 C]
  Tensor inverse_std_;    ///< [4 C]
};

/// Every tensor of diffusers' AutoencoderKLFlux2: autoencoder_kl_table() and the batch norm "bn".
nn::TensorTable flux2_vae_table(const AutoencoderKlConfig& config, const TensorSource& source);

}  // namespace dither::models
