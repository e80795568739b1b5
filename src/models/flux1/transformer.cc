#include "models/flux1/transformer.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "models/flux1/rope.h"

namespace dither::models {
namespace {

/// One step's modulations [B, M], by the layers that they are for.
struct StepModulations {
  std::vector<DoubleModulations> double_blocks;
  std::vector<Tensor> single_blocks;
  Modulation out;  ///< without a gate

  StepModulations(const Tensor& modulations, const Flux1Config& config) {
    ModulationColumns columns(modulations);
    const std::int64_t width = config.width();
    for (std::int64_t i = 0; i < config.num_layers; ++i) {
      const Tensor image = columns.next(6 * width);
      double_blocks.push_back({.image = image, .text = columns.next(6 * width)});
    }
    for (std::int64_t i = 0; i < config.num_single_layers; ++i) {
      single_blocks.push_back(columns.next(3 * width));
    }
    out.scale = columns.next(width);  // unlike in the blocks, before the shift
    out.shift = columns.next(width);
  }
};

DoubleStreamBlock make_double_block(const nn::WeightScope& scope, const Flux1Config& config) {
  return {config.num_attention_heads,
          {scope,
           {.to_q = "to_q",
            .to_k = "to_k",
            .to_v = "to_v",
            .norm_q = "norm_q",
            .norm_k = "norm_k",
            .to_out = "to_out.0",
            .feed_forward_in = "ff.net.0.proj",
            .feed_forward_out = "ff.net.2"},
           FeedForward::kGelu},
          {scope,
           {.to_q = "add_q_proj",
            .to_k = "add_k_proj",
            .to_v = "add_v_proj",
            .norm_q = "norm_added_q",
            .norm_k = "norm_added_k",
            .to_out = "to_add_out",
            .feed_forward_in = "ff_context.net.0.proj",
            .feed_forward_out = "ff_context.net.2"},
           FeedForward::kGelu}};
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
    blocks_.add([&] { double_blocks_.push_back(make_double_block(block, config)); });
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
  const StepModulations step(modulations, config_);
  const std::size_t doubles = double_blocks_.size();
  const std::size_t singles = single_blocks_.size();
  const auto single_norm = [&](std::size_t i) {
    return i < singles ? single_blocks_[i].norm(step.single_blocks[i])
                       : norm_for(proj_out_, step.out);
  };
  const auto double_norms = [&](std::size_t i) {
    return i < doubles ? double_blocks_[i].norms(step.double_blocks[i])
                       : StreamNorms{.image = single_norm(0), .text = single_norm(0)};
  };

  const StreamNorms first_norms = double_norms(0);
  Streams x{.image = normed(x_embedder_(latents), first_norms.image),
            .text = normed(conditioning.context, first_norms.text)};
  nn::LayerSequence::Pass pass(blocks_);
  for (std::size_t i = 0; i < doubles; ++i) {
    x = pass.run(fmt::format("transformer_blocks.{}", i), [&] {
      return double_blocks_[i](x, step.double_blocks[i], double_norms(i + 1), conditioning.rope,
                               precision);
    });
  }
  ops::NormedStream z{.x = ops::concat({x.text.x, x.image.x}, 1),
                      .normalized = ops::concat({x.text.normalized, x.image.normalized}, 1)};
  for (std::size_t i = 0; i < singles; ++i) {
    const bool last = i + 1 == singles;  // of which only the image is read
    z = pass.run(fmt::format("single_transformer_blocks.{}", i), [&] {
      return single_blocks_[i](z, step.single_blocks[i], single_norm(i + 1), conditioning.rope,
                               precision, last ? x.text.x.dim(1) : 0);
    });
  }
  return proj_out_(z.normalized);
}

}  // namespace dither::models
