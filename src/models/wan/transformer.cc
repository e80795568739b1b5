#include "models/wan/transformer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/error.h"

namespace dither::models {
namespace {

void require(bool condition, std::string_view what) {
  if (!condition) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("Wan transformer: {}", what));
  }
}

/// table [R, W] + vectors [B, W] -> [R, B, W].
Tensor shifted(const Tensor& table, const Tensor& vectors) {
  std::vector<Tensor> samples;
  for (std::int64_t b = 0; b < vectors.dim(0); ++b) {
    const Tensor vector = ops::contiguous(vectors.at(b));
    samples.push_back(ops::add(table, vector).unflatten(0, table.dim(0), 1));
  }
  return samples.size() == 1 ? samples.front() : ops::concat(samples, 1);
}

/// Row r of [R, B, W]: [B, W], or with a row for each frame [F, W].
Tensor row_of(const Tensor& rows, std::int64_t r, const Tensor& row_of_frame) {
  Tensor row = rows.at(r);
  if (!row_of_frame.defined()) return row;
  return ops::embedding(row, row_of_frame).reshape({row_of_frame.dim(1), row.dim(1)});
}

/// Row 1, but for the first frame row 0. [1, F] kI32.
Tensor given_first(std::int64_t frames, ops::Backend& backend) {
  const Tensor rows = Tensor::host({1, frames}, DType::kI32);
  std::fill_n(rows.data<std::int32_t>() + 1, frames - 1, 1);
  return backend.upload(rows, DType::kI32);
}

}  // namespace

WanTransformer::WanTransformer(const nn::WeightScope& scope, const WanConfig& config)
    : config_(config),
      backend_(&scope.backend()),
      dtype_(scope.dtype()),
      patch_embedding_(scope / "patch_embedding"),
      time_embedder_((scope / "condition_embedder.time_embedder").with_dtype(DType::kF32)),
      time_proj_(scope / "condition_embedder.time_proj"),
      text_in_(scope / "condition_embedder.text_embedder.linear_1"),
      text_out_(scope / "condition_embedder.text_embedder.linear_2"),
      text_layers_(scope, kWanTextProjections, config.num_layers),
      block_layers_(scope, kWanBlocks, config.num_layers),
      proj_out_(scope / "proj_out") {
  const nn::WeightScope floats = scope.with_dtype(DType::kF32);
  std::vector<Tensor> tables;
  for (int i = 0; i < config.num_layers; ++i) {
    const nn::WeightScope block = scope / "blocks" / i;
    text_layers_.add([&] { text_projections_.emplace_back(block, config); });
    block_layers_.add([&] { blocks_.emplace_back(block, config); });
    tables.push_back(
        (floats / "blocks" / i).upload("scale_shift_table").reshape({1, 6 * config.width()}));
  }
  block_tables_ = ops::concat(tables, 0);
  out_table_ = floats.upload("scale_shift_table").reshape({2, config.width()});
}

void WanTransformer::check(const WanInputs& inputs) const {
  require(!inputs.timesteps.empty(), "needs a timestep");
  require(inputs.prompt_embeds.rank() == 3 && inputs.prompt_embeds.dim(1) > 0,
          fmt::format("prompt_embeds {} must be [B, L, D]", to_string(inputs.prompt_embeds)));
  require(!inputs.first_frame_given || inputs.prompt_embeds.dim(0) == 1,
          fmt::format("prompt_embeds {}: one sample at a time where the first frame is given",
                      to_string(inputs.prompt_embeds)));
  const VideoGrid& grid = inputs.grid;
  for (const std::int64_t extent : {grid.frames, grid.height, grid.width}) {
    require(extent > 0 && extent <= config_.rope_max_seq_len,
            fmt::format("a video of {} x {} x {} tokens, each extent must be 1 to {}", grid.frames,
                        grid.height, grid.width, config_.rope_max_seq_len));
  }
}

WanConditioning WanTransformer::prepare(const WanInputs& inputs) const {
  check(inputs);
  return {.text = text(inputs.prompt_embeds),
          .rope = wan_rope(config_, inputs.grid, *backend_),
          .modulations = modulations(inputs),
          .row_of_frame =
              inputs.first_frame_given ? given_first(inputs.grid.frames, *backend_) : Tensor()};
}

/// [N, 1, 7 D] f32.
Tensor WanTransformer::vectors(const std::vector<float>& timesteps) const {
  const Tensor sinusoid =
      backend_->upload(sinusoidal_embedding(timesteps, config_.freq_dim), DType::kF32);
  const Tensor temb = ops::cast(time_embedder_(sinusoid), dtype_);                   // [N, D]
  const Tensor projected = time_proj_(ops::activate(temb, ops::Activation::kSilu));  // [N, 6 D]
  const Tensor joined =
      ops::concat({ops::cast(projected, DType::kF32), ops::cast(temb, DType::kF32)}, -1);
  return joined.unflatten(0, joined.dim(0), 1);
}

/// Those of WanConditioning.
Tensor WanTransformer::modulations(const WanInputs& inputs) const {
  const Tensor of_one = vectors(inputs.timesteps);
  if (inputs.first_frame_given) {
    return ops::concat({vectors(std::vector<float>(inputs.timesteps.size(), 0)), of_one}, 1);
  }
  const std::vector<Tensor> samples(static_cast<std::size_t>(inputs.prompt_embeds.dim(0)), of_one);
  return samples.size() == 1 ? of_one : ops::concat(samples, 1);
}

/// [blocks, 2, B, L_text, D].
Tensor WanTransformer::text(const Tensor& prompt_embeds) const {
  const Tensor embedded = text_out_(text_in_(prompt_embeds, ops::Activation::kGeluTanh));
  const Shape shape = embedded.shape();
  Tensor result = ops::empty_like(embedded, {config_.num_layers, 2, shape[0], shape[1], shape[2]});
  nn::LayerSequence::Pass pass(text_layers_);
  for (std::int64_t i = 0; i < config_.num_layers; ++i) {
    const Tensor layer = result.at(i);
    pass.run(kWanTextProjections, [&] {
      text_projections_[static_cast<std::size_t>(i)](embedded, layer.at(0), layer.at(1));
    });
  }
  return result;
}

WanText WanTransformer::text_of(const WanConditioning& conditioning, std::int64_t block) const {
  const Tensor pair = conditioning.text.at(block);
  const auto heads = [&](std::int64_t i) {
    return pair.at(i).unflatten(-1, config_.num_attention_heads, config_.attention_head_dim);
  };
  return {.k = heads(0), .v = heads(1)};
}

Tensor WanTransformer::velocity(const Tensor& latents, const WanConditioning& conditioning,
                                const Tensor& modulations,
                                ops::AttentionPrecision precision) const {
  const std::int64_t width = config_.width();
  require(modulations.rank() == 2 && modulations.dim(1) == 7 * width,
          fmt::format("modulations {} must be [B, {}]", to_string(modulations), 7 * width));
  const Tensor& frames = conditioning.row_of_frame;
  require(!frames.defined() || modulations.dim(0) == 2,
          fmt::format("modulations {} must have a row for the first frame and one for the others",
                      to_string(modulations)));
  const Tensor steps = shifted(block_tables_, modulations.slice(-1, 0, 6 * width));
  const Tensor out = shifted(out_table_, modulations.slice(-1, 6 * width, 7 * width));
  const auto norm = [&](std::size_t i) {
    return i < blocks_.size() ? blocks_[i].norm(row_of(steps, static_cast<std::int64_t>(i), frames))
                              : norm_for(proj_out_, {.shift = row_of(out, 0, frames),
                                                     .scale = row_of(out, 1, frames),
                                                     .gate = {}});
  };

  const std::int64_t samples = frames.defined() ? frames.dim(1) : latents.dim(0);
  ops::NormedStream x = normed(patch_embedding_(latents).reshape({samples, -1, width}), norm(0));
  nn::LayerSequence::Pass pass(block_layers_);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const auto block = static_cast<std::int64_t>(i);
    x = pass.run(fmt::format("blocks.{}", i), [&] {
      return blocks_[i](std::move(x), row_of(steps, block, frames), text_of(conditioning, block),
                        norm(i + 1), conditioning.rope, precision);
    });
  }
  return proj_out_(x.normalized).reshape({latents.dim(0), -1, config_.velocity_width()});
}

}  // namespace dither::models
