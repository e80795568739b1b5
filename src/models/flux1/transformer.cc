#include "models/flux1/transformer.h"

#include <fmt/format.h>

#include "base/error.h"

namespace dither::models {
namespace {

/// One step's row of modulations [N, B, K] -> [B, K].
Tensor at_step(const Tensor& modulations, std::int64_t step) {
  return modulations.slice(0, step, step + 1).reshape({modulations.dim(1), modulations.dim(2)});
}

Streams at_step(const Streams& modulations, std::int64_t step) {
  return {.image = at_step(modulations.image, step), .text = at_step(modulations.text, step)};
}

void check_inputs(const Flux1Inputs& inputs) {
  const auto require = [](bool condition, std::string_view what) {
    if (!condition) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("FLUX.1 transformer: {}", what));
    }
  };
  require(!inputs.timesteps.empty(), "needs a timestep");
  require(inputs.grid.rows > 0 && inputs.grid.cols > 0, "needs an image token");
  require(inputs.prompt_embeds.rank() == 3 && inputs.pooled_prompt_embeds.rank() == 2 &&
              inputs.prompt_embeds.dim(0) == inputs.pooled_prompt_embeds.dim(0),
          fmt::format("prompt_embeds {} and pooled_prompt_embeds {} are not of one batch",
                      to_string(inputs.prompt_embeds), to_string(inputs.pooled_prompt_embeds)));
}

}  // namespace

Flux1Transformer::Flux1Transformer(const nn::WeightScope& scope, const Flux1Config& config)
    : config_(config),
      backend_(&scope.backend()),
      x_embedder_(scope / "x_embedder"),
      context_embedder_(scope / "context_embedder"),
      time_text_embed_(scope / "time_text_embed", config),
      norm_out_(scope / "norm_out.linear"),
      proj_out_(scope / "proj_out") {
  for (int i = 0; i < config.num_layers; ++i) {
    double_blocks_.emplace_back(scope / "transformer_blocks" / i, config);
  }
  for (int i = 0; i < config.num_single_layers; ++i) {
    single_blocks_.emplace_back(scope / "single_transformer_blocks" / i, config);
  }
}

Flux1Conditioning Flux1Transformer::prepare(const Flux1Inputs& inputs) const {
  check_inputs(inputs);
  const Tensor temb =
      time_text_embed_(inputs.timesteps, inputs.guidance_scale, inputs.pooled_prompt_embeds);
  const Tensor silu_temb = ops::activate(temb, ops::Activation::kSilu);  // [N, B, D]

  Flux1Conditioning conditioning;
  conditioning.context = context_embedder_(inputs.prompt_embeds);
  conditioning.rope = flux1_rope(config_, inputs.prompt_embeds.dim(1), inputs.grid, *backend_);
  for (const DoubleStreamBlock& block : double_blocks_) {
    conditioning.double_modulations.push_back(block.modulations(silu_temb));
  }
  for (const SingleStreamBlock& block : single_blocks_) {
    conditioning.single_modulations.push_back(block.modulations(silu_temb));
  }
  conditioning.out_modulations = norm_out_(silu_temb);
  return conditioning;
}

Tensor Flux1Transformer::velocity(const Tensor& latents, const Flux1Conditioning& conditioning,
                                  std::int64_t step) const {
  Streams x{.image = x_embedder_(latents), .text = conditioning.context};
  for (std::size_t i = 0; i < double_blocks_.size(); ++i) {
    x = double_blocks_[i](x, at_step(conditioning.double_modulations[i], step), conditioning.rope);
  }
  Tensor z = ops::concat({x.text, x.image}, 1);
  for (std::size_t i = 0; i < single_blocks_.size(); ++i) {
    const bool last = i + 1 == single_blocks_.size();  // of which only the image is read
    z = single_blocks_[i](z, at_step(conditioning.single_modulations[i], step), conditioning.rope,
                          last ? x.text.dim(1) : 0);
  }
  const std::int64_t width = config_.width();
  const Tensor out = at_step(conditioning.out_modulations, step);
  const Tensor scale = out.slice(-1, 0, width);  // unlike in the blocks, before the shift
  const Tensor shift = out.slice(-1, width, 2 * width);
  return proj_out_(ops::layer_norm_modulate(z, shift, scale, kFlux1NormEps));
}

}  // namespace dither::models
