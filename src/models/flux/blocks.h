#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "models/flux/double_stream.h"
#include "models/flux/joint_attention.h"
#include "models/flux/modulation.h"
#include "nn/layer_sequence.h"
#include "nn/layers.h"
#include "ops/ops.h"

namespace dither::models {

/// One step's modulations, by the layers that they are for.
struct StepModulations {
  std::vector<DoubleModulations> double_blocks;
  std::vector<Modulation> single_blocks;
  Modulation out;  ///< of the norm behind the last block; without a gate
};

/// What all blocks of a step share.
struct BlockContext {
  const ops::Rope& rope;
  ops::AttentionPrecision precision;
  Tensor others;  ///< [blocks, 2, B, L, H, D]: of every block JointAttention::others; or absent

  JointAttention of_block(std::size_t block) const {
    return {.rope = rope,
            .precision = precision,
            .others = others.defined() ? others.at(static_cast<std::int64_t>(block)) : Tensor{}};
  }
};

/// Runs a step's blocks, in the order of `sequence`: the double ones over both streams, then the
/// single ones over [text, image]. image [B, L_image, D], text [B, L_text, D] -> the first
/// `image_tokens` rows of the image, normalised as `reader` takes them: of the last block nothing
/// else is read. SingleBlock: Flux1SingleBlock, Flux2SingleBlock.
template <typename SingleBlock>
Tensor run_blocks(const nn::LayerSequence& sequence,
                  const std::vector<DoubleStreamBlock>& double_blocks,
                  const std::vector<SingleBlock>& single_blocks, const nn::Linear& reader,
                  Tensor image, const Tensor& text, std::int64_t image_tokens,
                  const StepModulations& step, const BlockContext& context) {
  const std::size_t doubles = double_blocks.size();
  const std::size_t singles = single_blocks.size();
  const auto single_norm = [&](std::size_t i) {
    return i < singles ? single_blocks[i].norm(step.single_blocks[i]) : norm_for(reader, step.out);
  };
  const auto double_norms = [&](std::size_t i) {
    return i < doubles ? double_blocks[i].norms(step.double_blocks[i])
                       : StreamNorms{.image = single_norm(0), .text = single_norm(0)};
  };

  const StreamNorms first_norms = double_norms(0);
  Streams x{.image = normed(std::move(image), first_norms.image),
            .text = normed(text, first_norms.text)};
  nn::LayerSequence::Pass pass(sequence);
  for (std::size_t i = 0; i < doubles; ++i) {
    x = pass.run(fmt::format("transformer_blocks.{}", i), [&] {
      return double_blocks[i](std::move(x), step.double_blocks[i], double_norms(i + 1),
                              context.of_block(i));
    });
  }
  ops::NormedStream z{.x = ops::concat({x.text.x, x.image.x}, 1),
                      .normalized = ops::concat({x.text.normalized, x.image.normalized}, 1)};
  x = {};
  const std::int64_t text_tokens = text.dim(1);
  const std::int64_t tokens = z.x.dim(1);
  for (std::size_t i = 0; i < singles; ++i) {
    const bool last = i + 1 == singles;
    z = pass.run(fmt::format("single_transformer_blocks.{}", i), [&] {
      return single_blocks[i](std::move(z), step.single_blocks[i], single_norm(i + 1),
                              context.of_block(doubles + i), last ? text_tokens : 0,
                              last ? text_tokens + image_tokens : tokens);
    });
  }
  return z.normalized;
}

}  // namespace dither::models
