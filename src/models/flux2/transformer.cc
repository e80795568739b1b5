#include "models/flux2/transformer.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "models/flux/blocks.h"
#include "models/flux2/rope.h"

namespace dither::models {
namespace {

constexpr FeedForwardNames kFeedForward = {
    .in = "linear_in", .out = "linear_out", .kind = FeedForward::kSwiGlu};

void require(bool condition, std::string_view what) {
  if (!condition) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("FLUX.2 transformer: {}", what));
  }
}

void check_inputs(const Flux2Inputs& inputs) {
  require(!inputs.timesteps.empty(), "needs a timestep");
  require(inputs.grid.rows > 0 && inputs.grid.cols > 0, "needs an image token");
  require(inputs.prompt_embeds.rank() == 3,
          fmt::format("prompt_embeds {} must be [B, L, D]", to_string(inputs.prompt_embeds)));
  std::int64_t tokens = 0;
  for (const TokenGrid& grid : inputs.reference_grids) tokens += grid.tokens();
  const std::int64_t given = inputs.reference.defined() ? inputs.reference.dim(1) : 0;
  require(tokens == given, fmt::format("{} reference tokens, their grids have {}", given, tokens));
}

/// Every block's are the same.
StepModulations split_modulations(const Tensor& modulations, const Flux2Config& config) {
  ModulationColumns columns(modulations);
  const std::int64_t width = config.width();
  const Tensor image = columns.next(6 * width);
  const DoubleModulations doubled{.image = image, .text = columns.next(6 * width)};
  const Modulation single = modulation_at(columns.next(3 * width), 0, width);
  StepModulations step{
      .double_blocks = std::vector(static_cast<std::size_t>(config.num_layers), doubled),
      .single_blocks = std::vector(static_cast<std::size_t>(config.num_single_layers), single),
      .out = {}};
  step.out.scale = columns.next(width);  // unlike in the blocks, before the shift
  step.out.shift = columns.next(width);
  return step;
}

}  // namespace

Flux2SingleBlock::Flux2SingleBlock(const nn::WeightScope& scope, const Flux2Config& config)
    : heads_(config.num_attention_heads),
      mlp_width_(config.mlp_width()),
      to_qkv_mlp_proj_(scope / "attn.to_qkv_mlp_proj"),
      norm_q_((scope / "attn.norm_q").upload("weight")),
      norm_k_((scope / "attn.norm_k").upload("weight")),
      to_out_(scope / "attn.to_out") {}

ops::NormedStream Flux2SingleBlock::operator()(ops::NormedStream z, const Modulation& m,
                                               const ops::ModulatedNorm& next,
                                               const JointAttention& attention, std::int64_t first,
                                               std::int64_t end) const {
  const auto rows = [&](const Tensor& t) { return t.slice(1, first, end); };
  const std::int64_t width = z.x.dim(2);
  // [attended, mlp], each written in its place.
  const std::optional<float> codes = to_out_.codes();
  const Shape shape = {z.x.dim(0), z.x.dim(1), width + mlp_width_};
  const Tensor joint = ops::empty_like(z.x, shape, codes ? DType::kF8E4M3 : z.x.dtype());
  const ops::GatedColumns mlp{
      .activation = ops::Activation::kSilu,
      .out = {.tensor = joint.slice(-1, width, width + mlp_width_), .e4m3_scale = codes}};
  ops::AttentionOperands qkv =
      project_heads(std::array{ops::HeadProjection{.x = std::exchange(z.normalized, {}),
                                                   .weights = &to_qkv_mlp_proj_.weights(),
                                                   .q_norm = norm_q_,
                                                   .k_norm = norm_k_,
                                                   .gated = mlp}},
                    heads_, attention);
  qkv.q = rows(qkv.q);
  attend(std::exchange(qkv, {}), {.tensor = rows(joint).slice(-1, 0, width), .e4m3_scale = codes});
  return to_out_(rows(joint), {.gate = m.gate, .residual = rows(z.x)}, next);
}

TimeGuidanceEmbed::TimeGuidanceEmbed(const nn::WeightScope& scope, const Flux2Config& config)
    : scope_(scope),
      channels_(config.timestep_guidance_channels),
      timestep_embedder_(scope / "timestep_embedder") {
  if (config.guidance_embeds) guidance_embedder_.emplace(scope / "guidance_embedder");
}

Tensor TimeGuidanceEmbed::operator()(std::span<const float> timesteps,
                                     std::optional<float> guidance_scale) const {
  const auto sinusoid = [&](std::span<const float> values) {
    return scope_.backend().upload(sinusoidal_embedding(values, channels_), scope_.dtype());
  };
  std::vector<float> values;
  for (const float timestep : timesteps) {
    values.push_back(embedded_timestep(timestep, scope_.dtype()));
  }
  Tensor embedding = timestep_embedder_(sinusoid(values));
  if (!guidance_embedder_) return embedding;
  require(guidance_scale.has_value(),
          "guidance_scale is missing: this model is guidance-distilled");
  const std::array<float, 1> guidance = {embedded_guidance(*guidance_scale, scope_.dtype())};
  return ops::add(embedding, (*guidance_embedder_)(sinusoid(guidance)).reshape({embedding.dim(1)}));
}

Flux2Transformer::Flux2Transformer(const nn::WeightScope& scope, const Flux2Config& config)
    : config_(config),
      backend_(&scope.backend()),
      x_embedder_(scope / "x_embedder"),
      context_embedder_(scope / "context_embedder"),
      time_guidance_embed_(scope / "time_guidance_embed", config),
      double_stream_modulation_img_(scope / "double_stream_modulation_img.linear"),
      double_stream_modulation_txt_(scope / "double_stream_modulation_txt.linear"),
      single_stream_modulation_(scope / "single_stream_modulation.linear"),
      blocks_(scope, kFlux2Blocks, config.num_layers + config.num_single_layers),
      norm_out_(scope / "norm_out.linear"),
      proj_out_(scope / "proj_out") {
  for (int i = 0; i < config.num_layers; ++i) {
    blocks_.add([&] {
      double_blocks_.push_back(make_double_block(scope / "transformer_blocks" / i,
                                                 config.num_attention_heads, kFeedForward));
    });
  }
  for (int i = 0; i < config.num_single_layers; ++i) {
    blocks_.add(
        [&] { single_blocks_.emplace_back(scope / "single_transformer_blocks" / i, config); });
  }
}

/// Modulations of these timesteps, [N, B, M].
Tensor Flux2Transformer::vectors(std::span<const float> timesteps,
                                 std::optional<float> guidance_scale, std::int64_t samples) const {
  const Tensor silu_temb = ops::activate(time_guidance_embed_(timesteps, guidance_scale),
                                         ops::Activation::kSilu);  // [N, D]
  const Tensor joined = ops::concat(
      {double_stream_modulation_img_(silu_temb), double_stream_modulation_txt_(silu_temb),
       single_stream_modulation_(silu_temb), norm_out_(silu_temb)},
      -1);
  Tensor of_one = joined.unflatten(0, joined.dim(0), 1);  // [N, 1, M]
  if (samples == 1) return of_one;
  return ops::concat(std::vector<Tensor>(static_cast<std::size_t>(samples), of_one), 1);
}

/// Those of FluxConditioning.
/// Source: diffusers' Flux2Transformer2DModel with kv_cache_mode "extract", whose first step
/// computes the same beside the picture.
Tensor Flux2Transformer::reference_keys(const Flux2Inputs& inputs) const {
  constexpr std::array<float, 1> kTimestep = {0};
  const std::int64_t samples = inputs.reference.dim(0);
  const std::int64_t tokens = inputs.reference.dim(1);
  const Tensor of_step = vectors(kTimestep, inputs.guidance_scale, samples);
  const StepModulations step =
      split_modulations(of_step.reshape({samples, of_step.dim(2)}), config_);
  const ops::Rope rope = flux2_reference_rope(config_, inputs.reference_grids, *backend_);
  const std::size_t doubles = double_blocks_.size();
  const std::size_t blocks = doubles + single_blocks_.size();
  const auto norm = [&](std::size_t i) {
    if (i < doubles) return double_blocks_[i].norms(step.double_blocks[i]).image;
    if (i < blocks) return single_blocks_[i - doubles].norm(step.single_blocks[i - doubles]);
    return norm_for(proj_out_, step.out);
  };
  ops::NormedStream x = normed(x_embedder_(inputs.reference), norm(0));
  const Tensor kept =
      ops::empty_like(x.x, {static_cast<std::int64_t>(blocks), 2, samples, tokens,
                            config_.num_attention_heads, config_.attention_head_dim});
  nn::LayerSequence::Pass pass(blocks_);
  for (std::size_t i = 0; i < blocks; ++i) {
    const JointAttention attention{.rope = rope, .kept = kept.at(static_cast<std::int64_t>(i))};
    x = pass.run(fmt::format("references.{}", i), [&] {
      if (i < doubles) {
        return double_blocks_[i].image_alone(std::move(x), step.double_blocks[i].image, norm(i + 1),
                                             attention);
      }
      return single_blocks_[i - doubles](std::move(x), step.single_blocks[i - doubles], norm(i + 1),
                                         attention, 0, tokens);
    });
  }
  return kept;
}

FluxConditioning Flux2Transformer::prepare(const Flux2Inputs& inputs) const {
  check_inputs(inputs);
  const bool once = inputs.references_once && inputs.reference.defined();
  return {
      .context = context_embedder_(inputs.prompt_embeds),
      .rope = flux2_rope(config_, inputs.prompt_embeds.dim(1), inputs.grid,
                         once ? std::vector<TokenGrid>() : inputs.reference_grids, *backend_),
      .modulations = vectors(inputs.timesteps, inputs.guidance_scale, inputs.prompt_embeds.dim(0)),
      .reference = once ? Tensor() : inputs.reference,
      .reference_keys = once ? reference_keys(inputs) : Tensor()};
}

Tensor Flux2Transformer::velocity(const Tensor& latents, const FluxConditioning& conditioning,
                                  const Tensor& modulations,
                                  ops::AttentionPrecision precision) const {
  const Tensor tokens = conditioning.reference.defined()
                            ? ops::concat({latents, conditioning.reference}, 1)
                            : latents;
  return proj_out_(run_blocks(
      blocks_, double_blocks_, single_blocks_, proj_out_, x_embedder_(tokens), conditioning.context,
      latents.dim(1), split_modulations(modulations, config_),
      {.rope = conditioning.rope, .precision = precision, .others = conditioning.reference_keys}));
}

}  // namespace dither::models
