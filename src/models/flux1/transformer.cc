#include "models/flux1/transformer.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "models/flux/blocks.h"
#include "models/flux1/rope.h"

namespace dither::models {
namespace {

constexpr FeedForwardNames kFeedForward = {
    .in = "net.0.proj", .out = "net.2", .kind = FeedForward::kGelu};

StepModulations split_modulations(const Tensor& modulations, const Flux1Config& config) {
  ModulationColumns columns(modulations);
  const std::int64_t width = config.width();
  StepModulations step;
  for (std::int64_t i = 0; i < config.num_layers; ++i) {
    const Tensor image = columns.next(6 * width);
    step.double_blocks.push_back({.image = image, .text = columns.next(6 * width)});
  }
  for (std::int64_t i = 0; i < config.num_single_layers; ++i) {
    step.single_blocks.push_back(modulation_at(columns.next(3 * width), 0, width));
  }
  step.out.scale = columns.next(width);  // unlike in the blocks, before the shift
  step.out.shift = columns.next(width);
  return step;
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
      modulation_layers_(scope, kFlux1Modulations, config.modulation_count()),
      blocks_(scope, kFlux1Blocks, config.num_layers + config.num_single_layers),
      proj_out_(scope / "proj_out") {
  const auto add_modulation = [this](const nn::WeightScope& layer) {
    modulation_layers_.add([&] { modulations_.emplace_back(layer); });
  };
  for (int i = 0; i < config.num_layers; ++i) {
    const nn::WeightScope block = scope / "transformer_blocks" / i;
    add_modulation(block / "norm1.linear");
    add_modulation(block / "norm1_context.linear");
    blocks_.add([&] {
      double_blocks_.push_back(make_double_block(block, config.num_attention_heads, kFeedForward));
    });
  }
  for (int i = 0; i < config.num_single_layers; ++i) {
    const nn::WeightScope block = scope / "single_transformer_blocks" / i;
    add_modulation(block / "norm.linear");
    blocks_.add([&] { single_blocks_.emplace_back(block, config); });
  }
  add_modulation(scope / "norm_out.linear");
}

FluxConditioning Flux1Transformer::prepare(const Flux1Inputs& inputs) const {
  check_inputs(inputs);
  const Tensor temb =
      time_text_embed_(inputs.timesteps, inputs.guidance_scale, inputs.pooled_prompt_embeds);
  const Tensor silu_temb = ops::activate(temb, ops::Activation::kSilu);  // [N, B, D]

  FluxConditioning conditioning;
  conditioning.context = context_embedder_(inputs.prompt_embeds);
  conditioning.rope = flux1_rope(config_, inputs.prompt_embeds.dim(1), inputs.grid, *backend_);
  std::int64_t end = 0;
  for (const nn::Linear& modulation : modulations_) end += modulation.weights().out_features();
  conditioning.modulations =
      ops::empty_like(silu_temb, {silu_temb.dim(0), silu_temb.dim(1), std::exchange(end, 0)});
  nn::LayerSequence::Pass pass(modulation_layers_);
  for (const nn::Linear& modulation : modulations_) {
    const std::int64_t begin = end;
    end += modulation.weights().out_features();
    pass.run(kFlux1Modulations, [&] {
      return modulation(silu_temb,
                        {.out = {.tensor = conditioning.modulations.slice(-1, begin, end)}});
    });
  }
  return conditioning;
}

Tensor Flux1Transformer::velocity(const Tensor& latents, const FluxConditioning& conditioning,
                                  const Tensor& modulations,
                                  ops::AttentionPrecision precision) const {
  return proj_out_(run_blocks(blocks_, double_blocks_, single_blocks_, proj_out_,
                              x_embedder_(latents), conditioning.context, latents.dim(1),
                              split_modulations(modulations, config_),
                              {.rope = conditioning.rope, .precision = precision, .others = {}}));
}

}  // namespace dither::models
