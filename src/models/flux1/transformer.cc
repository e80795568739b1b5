#include "models/flux1/transformer.h"

#include <fmt/format.h>

#include "base/error.h"
#include "models/flux1/rope.h"

namespace dither::models {
namespace {

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

FluxConditioning Flux1Transformer::prepare(const Flux1Inputs& inputs) const {
  check_inputs(inputs);
  const Tensor temb =
      time_text_embed_(inputs.timesteps, inputs.guidance_scale, inputs.pooled_prompt_embeds);
  const Tensor silu_temb = ops::activate(temb, ops::Activation::kSilu);  // [N, B, D]

  FluxConditioning conditioning;
  conditioning.context = context_embedder_(inputs.prompt_embeds);
  conditioning.rope = flux1_rope(config_, inputs.prompt_embeds.dim(1), inputs.grid, *backend_);
  std::vector<Tensor> modulations;
  for (const Flux1DoubleBlock& block : double_blocks_) {
    const Streams streams = block.modulations(silu_temb);
    modulations.insert(modulations.end(), {streams.image, streams.text});
  }
  for (const Flux1SingleBlock& block : single_blocks_) {
    modulations.push_back(block.modulations(silu_temb));
  }
  modulations.push_back(norm_out_(silu_temb));
  conditioning.modulations = ops::concat(modulations, -1);
  return conditioning;
}

Tensor Flux1Transformer::velocity(const Tensor& latents, const FluxConditioning& conditioning,
                                  const Tensor& modulations,
                                  ops::AttentionPrecision precision) const {
  const std::int64_t width = config_.width();
  ModulationColumns columns(modulations);
  Streams x{.image = x_embedder_(latents), .text = conditioning.context};
  for (const Flux1DoubleBlock& block : double_blocks_) {
    const Tensor image = columns.next(6 * width);
    const Tensor text = columns.next(6 * width);
    x = block(x, {.image = image, .text = text}, conditioning.rope, precision);
  }
  Tensor z = ops::concat({x.text, x.image}, 1);
  for (const Flux1SingleBlock& block : single_blocks_) {
    const bool last = &block == &single_blocks_.back();  // of which only the image is read
    z = block(z, columns.next(3 * width), conditioning.rope, precision, last ? x.text.dim(1) : 0);
  }
  const Tensor scale = columns.next(width);  // unlike in the blocks, before the shift
  const Tensor shift = columns.next(width);
  return proj_out_(
      ops::layer_norm_modulate(z, shift, scale, kFluxNormEps, {.e4m3_scale = proj_out_.codes()}));
}

}  // namespace dither::models
