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

/// Puts the tensors of diffusers' layers into a file under BFL's names, each after `prefix`.
class BflWriter {
 public:
  BflWriter(const NamedTensors& diffusers, std::string prefix)
      : diffusers_(diffusers), prefix_(std::move(prefix)) {}

  /// Layers one after the other as one. Parts of a fused layer must have the same scales.
  void fuse(const std::string& to, const std::vector<std::string>& layers,
            std::string_view norm_leaf = "weight") {
    for (const char* leaf : {"weight", "bias", "weight_scale", "weight_scale_2", "input_scale",
                             "scale_weight", "scale_input", "comfy_quant"}) {
      std::vector<Tensor> parts;
      for (const std::string& layer : layers) {
        const auto it = diffusers_.find(layer + "." + leaf);
        if (it != diffusers_.end()) parts.push_back(it->second);
      }
      if (parts.empty()) continue;
      const std::string_view name(leaf);
      const bool rows = name == "weight" || name == "bias" || parts[0].rank() == 2;
      const std::string renamed(name == "weight" ? norm_leaf : name);
      std::string stored = prefix_ + to;
      stored.append(".").append(renamed);
      bfl_[stored] = rows ? concat_rows(parts) : parts[0];
    }
  }
  /// (scale, shift) -> (shift, scale).
  void swap_halves(const std::string& layer) {
    for (const char* leaf : {"weight", "bias", "weight_scale"}) {
      const auto it = bfl_.find(prefix_ + layer + "." + leaf);
      if (it == bfl_.end() || it->second.rank() == 0) continue;
      const std::int64_t rows = it->second.dim(0);
      it->second =
          concat_rows({it->second.slice(0, rows / 2, rows), it->second.slice(0, 0, rows / 2)});
    }
  }
  /// Of block number i; empty beyond the last one.
  std::string block(const char* blocks, int i, const char* layer) const {
    std::string name(blocks);
    name.append(".").append(std::to_string(i)).append(".");
    return diffusers_.contains(name + layer + ".weight") ? name : "";
  }
  const NamedTensors& tensors() const { return bfl_; }

 private:
  const NamedTensors& diffusers_;
  std::string prefix_;
  NamedTensors bfl_;
};

/// The tensors of diffusers' FluxTransformer2DModel as Black Forest Labs' single file holds them,
/// each name after `prefix`. Written from the layers of BFL's model code, apart from the reader's
/// table.
inline NamedTensors to_bfl_flux1(const NamedTensors& diffusers, const std::string& prefix = "") {
  BflWriter bfl(diffusers, prefix);
  const auto stream = [&](const std::string& block, const std::string& to, const std::string& qkv,
                          const std::string& out, const std::string& mod, const std::string& ff) {
    const auto [before, after] =
        std::pair(qkv.substr(0, qkv.find('#')), qkv.substr(qkv.find('#') + 1));
    const auto projection = [&](char c) { return block + "attn." + before + c + after; };
    const std::string norm = qkv.starts_with("add") ? "norm_added_" : "norm_";
    bfl.fuse(to + "_attn.qkv", {projection('q'), projection('k'), projection('v')});
    bfl.fuse(to + "_attn.norm.query_norm", {block + "attn." + norm + "q"}, "scale");
    bfl.fuse(to + "_attn.norm.key_norm", {block + "attn." + norm + "k"}, "scale");
    bfl.fuse(to + "_attn.proj", {block + "attn." + out});
    bfl.fuse(to + "_mod.lin", {block + mod + ".linear"});
    bfl.fuse(to + "_mlp.0", {block + ff + ".net.0.proj"});
    bfl.fuse(to + "_mlp.2", {block + ff + ".net.2"});
  };
  bfl.fuse("img_in", {"x_embedder"});
  bfl.fuse("txt_in", {"context_embedder"});
  for (const auto& [to, from] : std::map<std::string, std::string>{
           {"time", "timestep"}, {"vector", "text"}, {"guidance", "guidance"}}) {
    bfl.fuse(to + "_in.in_layer", {"time_text_embed." + from + "_embedder.linear_1"});
    bfl.fuse(to + "_in.out_layer", {"time_text_embed." + from + "_embedder.linear_2"});
  }
  std::string from;
  for (int i = 0; !(from = bfl.block("transformer_blocks", i, "attn.to_q")).empty(); ++i) {
    const std::string to = "double_blocks." + std::to_string(i) + ".";
    stream(from, to + "img", "to_#", "to_out.0", "norm1", "ff");
    stream(from, to + "txt", "add_#_proj", "to_add_out", "norm1_context", "ff_context");
  }
  for (int i = 0; !(from = bfl.block("single_transformer_blocks", i, "attn.to_q")).empty(); ++i) {
    const std::string to = "single_blocks." + std::to_string(i) + ".";
    bfl.fuse(to + "linear1",
             {from + "attn.to_q", from + "attn.to_k", from + "attn.to_v", from + "proj_mlp"});
    bfl.fuse(to + "linear2", {from + "proj_out"});
    bfl.fuse(to + "modulation.lin", {from + "norm.linear"});
    bfl.fuse(to + "norm.query_norm", {from + "attn.norm_q"}, "scale");
    bfl.fuse(to + "norm.key_norm", {from + "attn.norm_k"}, "scale");
  }
  bfl.fuse("final_layer.linear", {"proj_out"});
  bfl.fuse("final_layer.adaLN_modulation.1", {"norm_out.linear"});
  bfl.swap_halves("final_layer.adaLN_modulation.1");
  return bfl.tensors();
}

/// The same for Flux2Transformer2DModel.
inline NamedTensors to_bfl_flux2(const NamedTensors& diffusers, const std::string& prefix = "") {
  BflWriter bfl(diffusers, prefix);
  bfl.fuse("img_in", {"x_embedder"});
  bfl.fuse("txt_in", {"context_embedder"});
  for (const std::string& name : {std::string("time"), std::string("guidance")}) {
    std::string from("time_guidance_embed.");
    from.append(name == "time" ? "timestep" : name).append("_embedder.");
    bfl.fuse(name + "_in.in_layer", {from + "linear_1"});
    bfl.fuse(name + "_in.out_layer", {from + "linear_2"});
  }
  for (const char* name : {"double_stream_modulation_img", "double_stream_modulation_txt",
                           "single_stream_modulation"}) {
    bfl.fuse(std::string(name) + ".lin", {std::string(name) + ".linear"});
  }
  std::string from;
  for (int i = 0; !(from = bfl.block("transformer_blocks", i, "attn.to_q")).empty(); ++i) {
    const std::string to = "double_blocks." + std::to_string(i) + ".";
    bfl.fuse(to + "img_attn.qkv", {from + "attn.to_q", from + "attn.to_k", from + "attn.to_v"});
    bfl.fuse(to + "txt_attn.qkv",
             {from + "attn.add_q_proj", from + "attn.add_k_proj", from + "attn.add_v_proj"});
    bfl.fuse(to + "img_attn.proj", {from + "attn.to_out.0"});
    bfl.fuse(to + "txt_attn.proj", {from + "attn.to_add_out"});
    bfl.fuse(to + "img_attn.norm.query_norm", {from + "attn.norm_q"}, "scale");
    bfl.fuse(to + "img_attn.norm.key_norm", {from + "attn.norm_k"}, "scale");
    bfl.fuse(to + "txt_attn.norm.query_norm", {from + "attn.norm_added_q"}, "scale");
    bfl.fuse(to + "txt_attn.norm.key_norm", {from + "attn.norm_added_k"}, "scale");
    bfl.fuse(to + "img_mlp.0", {from + "ff.linear_in"});
    bfl.fuse(to + "img_mlp.2", {from + "ff.linear_out"});
    bfl.fuse(to + "txt_mlp.0", {from + "ff_context.linear_in"});
    bfl.fuse(to + "txt_mlp.2", {from + "ff_context.linear_out"});
  }
  const char* const first = "attn.to_qkv_mlp_proj";
  for (int i = 0; !(from = bfl.block("single_transformer_blocks", i, first)).empty(); ++i) {
    const std::string to = "single_blocks." + std::to_string(i) + ".";
    bfl.fuse(to + "linear1", {from + first});
    bfl.fuse(to + "linear2", {from + "attn.to_out"});
    bfl.fuse(to + "norm.query_norm", {from + "attn.norm_q"}, "scale");
    bfl.fuse(to + "norm.key_norm", {from + "attn.norm_k"}, "scale");
  }
  bfl.fuse("final_layer.linear", {"proj_out"});
  bfl.fuse("final_layer.adaLN_modulation.1", {"norm_out.linear"});
  bfl.swap_halves("final_layer.adaLN_modulation.1");
  return bfl.tensors();
}

inline NamedTensors read_all(const TensorSource& source) {
  NamedTensors all;
  for (const TensorInfo& info : source.tensors()) all[info.name] = source.read(info.name);
  return all;
}

}  // namespace dither
