#pragma once

#include <memory>

#include "io/checkpoint.h"
#include "quant/config.h"

namespace dither {

/// True for the weights of a FLUX.1 or FLUX.2 transformer under the names of Black Forest Labs' own
/// code, with or without Comfy's "model.diffusion_model." before them.
bool has_bfl_names(const TensorSource& stored);

/// Shows such weights under diffusers' names. A fused matrix (qkv, FLUX.1's linear1) becomes its
/// parts, each a view of the mapped file with the bias rows and all scales of the whole;
/// final_layer's modulation, which diffusers keeps as (scale, shift), is copied with its halves
/// swapped. Block scales of a packed NVFP4 part are tiled anew, the codes stay as they lie.
///
/// Tensors of the autoencoder and text encoders in Comfy's all-in-one files are left out; unknown
/// names stay as they are, so that the model's table can speak of them. Throws one kDataLoss error
/// for all fused tensors that cannot be split and all names that occur twice.
/// The names stand in io/bfl_rules.h.
std::unique_ptr<Checkpoint> with_diffusers_names(std::unique_ptr<Checkpoint> stored);

/// Gives the layers of `config` that go by their name in `stored` diffusers' names too. A pattern
/// of "ignore" counts for all parts of each layer that it matches.
void rename_bfl_layers(quant::Config& config, const TensorSource& stored);

}  // namespace dither
