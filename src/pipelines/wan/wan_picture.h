#pragma once

#include <memory>
#include <optional>

#include "media/image.h"
#include "models/vae/wan_autoencoder.h"
#include "models/wan/rope.h"
#include "ops/backend.h"
#include "pipelines/wan/wan_request.h"
#include "quant/weight_source.h"

namespace dither {

/// What a Wan transformer reads of the picture that a video begins with. The autoencoder's encoder
/// is loaded when the first picture comes: most requests to TI2V-5B have none.
class WanPictureEncoder {
 public:
  /// `weights` were checked against wan_vae_table(); `dtype`: of the encoder's activations.
  /// `input` is not kNone; `tiling`: what is larger than config.encoded_tiles() goes through the
  /// encoder by squares. `backend` outlives the object.
  WanPictureEncoder(std::unique_ptr<quant::WeightSource> weights, ops::Backend& backend,
                    DType dtype, models::WanVaeConfig config, PictureInput input, bool tiling);

  /// The picture in the size of the grid's video, whatever its own, on its way through the encoder:
  /// means of the latent distribution, normalised and packed as latents are. f32.
  ///  - kChannels: of a video whose other frames are gray, behind a mask of T =
  ///    scale_factor_temporal channels that is 1 in the first latent frame and 0 elsewhere,
  ///    [1, L, 4 (T + C)];
  ///  - kFirstFrame: of the picture alone, [1, h w, 4 C].
  /// Source: diffusers' WanImageToVideoPipeline (prepare_latents). Throws kInvalidArgument for an
  /// empty picture, and as WanVaeEncoder.
  Tensor operator()(const Image& picture, const models::VideoGrid& grid);

 private:
  const models::WanVaeEncoder& encoder();
  Tensor encode(const Image& picture, std::int64_t frames);
  Tensor mask(const models::VideoGrid& grid) const;

  std::unique_ptr<quant::WeightSource> weights_;
  ops::Backend& backend_;
  DType dtype_;
  models::WanVaeConfig config_;
  PictureInput input_;
  bool tiling_;
  std::optional<models::WanVaeEncoder> encoder_;
};

}  // namespace dither
