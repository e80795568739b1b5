#pragma once

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor.h"
#include "tensor/tensor_source.h"

namespace dither {

using NamedTensors = std::map<std::string, Tensor>;

inline Tensor concat_rows(const std::vector<Tensor>& parts) {
  Shape shape = parts.front().shape();
  shape[0] = 0;
  for (const Tensor& part : parts) shape[0] += part.dim(0);
  Tensor whole = Tensor::host(shape, parts.front().dtype());
  std::byte* out = whole.raw();
  for (const Tensor& part : parts) {
    std::memcpy(out, part.raw(), part.bytes());
    out += part.bytes();
  }
  return whole;
}

/// The tensors of diffusers' FluxTransformer2DModel as Black Forest Labs' single file holds them,
/// each name after `prefix`. Parts of a fused layer must have the same scales. Written from the
/// layers of BFL's model code, apart from the reader's table.
inline NamedTensors to_bfl_flux1(const NamedTensors& diffusers, const std::string& prefix = "") {
  NamedTensors bfl;
  const auto fuse = [&](const std::string& to, const std::vector<std::string>& layers,
                        std::string_view norm_leaf = "weight") {
    for (const char* leaf : {"weight", "bias", "weight_scale", "weight_scale_2", "input_scale",
                             "scale_weight", "scale_input", "comfy_quant"}) {
      std::vector<Tensor> parts;
      for (const std::string& layer : layers) {
        const auto it = diffusers.find(layer + "." + leaf);
        if (it != diffusers.end()) parts.push_back(it->second);
      }
      if (parts.empty()) continue;
      const std::string_view name(leaf);
      const bool rows = name == "weight" || name == "bias" || parts[0].rank() == 2;
      const std::string renamed(name == "weight" ? norm_leaf : name);
      bfl[prefix + to + "." + renamed] = rows ? concat_rows(parts) : parts[0];
    }
  };
  const auto stream = [&](const std::string& block, const std::string& to, const std::string& qkv,
                          const std::string& out, const std::string& mod, const std::string& ff) {
    const auto [before, after] =
        std::pair(qkv.substr(0, qkv.find('#')), qkv.substr(qkv.find('#') + 1));
    const auto projection = [&](char c) { return block + "attn." + before + c + after; };
    const std::string norm = qkv.starts_with("add") ? "norm_added_" : "norm_";
    fuse(to + "_attn.qkv", {projection('q'), projection('k'), projection('v')});
    fuse(to + "_attn.norm.query_norm", {block + "attn." + norm + "q"}, "scale");
    fuse(to + "_attn.norm.key_norm", {block + "attn." + norm + "k"}, "scale");
    fuse(to + "_attn.proj", {block + "attn." + out});
    fuse(to + "_mod.lin", {block + mod + ".linear"});
    fuse(to + "_mlp.0", {block + ff + ".net.0.proj"});
    fuse(to + "_mlp.2", {block + ff + ".net.2"});
  };
  fuse("img_in", {"x_embedder"});
  fuse("txt_in", {"context_embedder"});
  for (const auto& [to, from] : std::map<std::string, std::string>{
           {"time", "timestep"}, {"vector", "text"}, {"guidance", "guidance"}}) {
    fuse(to + "_in.in_layer", {"time_text_embed." + from + "_embedder.linear_1"});
    fuse(to + "_in.out_layer", {"time_text_embed." + from + "_embedder.linear_2"});
  }
  for (int i = 0;
       diffusers.contains("transformer_blocks." + std::to_string(i) + ".attn.to_q.weight"); ++i) {
    const std::string from = "transformer_blocks." + std::to_string(i) + ".";
    const std::string to = "double_blocks." + std::to_string(i) + ".";
    stream(from, to + "img", "to_#", "to_out.0", "norm1", "ff");
    stream(from, to + "txt", "add_#_proj", "to_add_out", "norm1_context", "ff_context");
  }
  for (int i = 0;
       diffusers.contains("single_transformer_blocks." + std::to_string(i) + ".attn.to_q.weight");
       ++i) {
    const std::string from = "single_transformer_blocks." + std::to_string(i) + ".";
    const std::string to = "single_blocks." + std::to_string(i) + ".";
    fuse(to + "linear1",
         {from + "attn.to_q", from + "attn.to_k", from + "attn.to_v", from + "proj_mlp"});
    fuse(to + "linear2", {from + "proj_out"});
    fuse(to + "modulation.lin", {from + "norm.linear"});
    fuse(to + "norm.query_norm", {from + "attn.norm_q"}, "scale");
    fuse(to + "norm.key_norm", {from + "attn.norm_k"}, "scale");
  }
  fuse("final_layer.linear", {"proj_out"});
  fuse("final_layer.adaLN_modulation.1", {"norm_out.linear"});
  for (const char* leaf : {"weight", "bias", "weight_scale"}) {  // (scale, shift) -> (shift, scale)
    const auto it = bfl.find(prefix + "final_layer.adaLN_modulation.1." + leaf);
    if (it == bfl.end() || it->second.rank() == 0) continue;
    const std::int64_t rows = it->second.dim(0);
    it->second =
        concat_rows({it->second.slice(0, rows / 2, rows), it->second.slice(0, 0, rows / 2)});
  }
  return bfl;
}

inline NamedTensors read_all(const TensorSource& source) {
  NamedTensors all;
  for (const TensorInfo& info : source.tensors()) all[info.name] = source.read(info.name);
  return all;
}

}  // namespace dither
