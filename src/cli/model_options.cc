#include "cli/model_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "cli/options.h"
#include "io/hub_cache.h"
#include "io/untrusted_name.h"
#include "runtime/default_model.h"

namespace dither::cli {
namespace {

/// Components that a folder on the command line can replace, by their names in model_index.json.
constexpr std::array kComponents = {
    "transformer", "transformer_2", "text_encoder", "text_encoder_2",
    "tokenizer",   "tokenizer_2",   "vae",          "scheduler"};

std::string refuse_byte_size(const std::string& text) {
  if (parse_byte_size(text)) return "";
  return fmt::format("{} is not a size like 16GiB, 16GB or 16000MiB", quote(text));
}

}  // namespace

std::optional<std::size_t> parse_byte_size(const std::string& text) {
  constexpr std::array<std::pair<std::string_view, double>, 6> kUnits = {{{"GiB", 1073741824.0},
                                                                          {"MiB", 1048576.0},
                                                                          {"GB", 1e9},
                                                                          {"MB", 1e6},
                                                                          {"G", 1073741824.0},
                                                                          {"M", 1048576.0}}};
  constexpr double kMost = 1e15;
  double number = 0;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [rest, error] = std::from_chars(begin, end, number, std::chars_format::fixed);
  if (error != std::errc()) return std::nullopt;
  for (const auto& [unit, bytes] : kUnits) {
    if (std::string_view(rest, end) != unit) continue;
    const double total = number * bytes;
    if (total >= 1 && total <= kMost) return static_cast<std::size_t>(total);
  }
  return std::nullopt;
}

std::vector<std::string> compute_dtype_names() {
  return {"auto", "bf16", "f32", "bfloat16", "float32"};
}

void add_model_options(CLI::App& app, ModelOptions& options) {
  add_optional(app, "--model-path", options.model_path,
               "Model folder, or owner/name[@revision] in the Hugging Face cache; "
               "without it the demo model")
      ->type_name("DIR")
      ->group("Model");
  for (const std::string component : kComponents) {
    std::string spelling = component;
    std::ranges::replace(spelling, '_', '-');
    add_optional(app, fmt::format("--{0}-path,--component-paths.{0}", spelling),
                 options.component_paths[component],
                 fmt::format("Folder in place of the model's {}/", component))
        ->type_name("DIR")
        ->group("Model");
  }
  const auto add_weights = [&](const char* name, std::optional<std::string>& target,
                               const char* description) {
    add_optional(app, name, target, description)->type_name("PATH")->group("Model");
  };
  add_weights("--transformer-weights-path", options.transformer_weights_path,
              "Weights in place of the transformer's: a file or a folder");
  add_weights("--modelopt-backbone", options.modelopt_backbone,
              "ModelOpt's backbone.pt, for an FP8 export without scales");
  add_weights("--transformer-2-weights-path", options.transformer_2_weights_path,
              "The same for the second transformer");
  add_weights("--modelopt-backbone-2", options.modelopt_backbone_2,
              "The same for the second transformer");
  add_switch(app, "--strict-precision", options.strict_precision,
             "Refuse layers that run in another precision than the checkpoint declares")
      ->group("Model");
  add_optional(app, "--load-format", options.load_format,
               "auto (weight files) or dummy: made-up weights of the configs' shapes, for timing")
      ->check(one_of({"auto", "dummy"}))
      ->type_name("NAME")
      ->group("Model");
  add_optional(app, "--dummy-quantization", options.dummy_quantization,
               "How a dummy transformer is stored: none, fp8-profile or fp8-full")
      ->check(one_of({"none", "fp8-profile", "fp8-full"}))
      ->type_name("NAME")
      ->group("Model");
  add_optional(app, "--dummy-quantization-2", options.dummy_quantization_2,
               "The second of two; by default like the first")
      ->check(one_of({"none", "fp8-profile", "fp8-full"}))
      ->type_name("NAME")
      ->group("Model");
  add_optional(app, "--attention-precision", options.attention_precision,
               "bf16, fp8 (approximate, CUDA), or schedule:first=N,last=M: bf16 in those steps")
      ->check(refuse_attention_precision)
      ->type_name("NAME")
      ->group("Model");
  add_optional(app, "--max-vram", options.max_vram,
               "GPU memory to use, \"16GiB\"; what does not fit waits in host memory. "
               "Default: what is free")
      ->check(refuse_byte_size)
      ->type_name("SIZE")
      ->group("Memory");
  add_switch(app, "--dit-cpu-offload", options.dit_cpu_offload,
             "Transformer in host memory, on the GPU only while it denoises")
      ->group("Memory");
  add_switch(app, "--dit-layerwise-offload", options.dit_layerwise_offload,
             "Transformer in host memory, its layers one after the other on the GPU")
      ->group("Memory");
  add_switch(app, "--text-encoder-cpu-offload", options.text_encoder_cpu_offload,
             "Large text encoder in host memory, its layers one after the other on the GPU")
      ->group("Memory");
  add_weight_options(app, "--", "Model", options);
  add_optional(app, "--device", options.device, "auto, cpu or cuda")
      ->check(one_of({"auto", "cpu", "cuda"}))
      ->type_name("NAME")
      ->group("Model");
  add_optional(app, "--threads", options.threads, "CPU threads; 0 takes what the process may use")
      ->check(whole_number(0, 1024))
      ->type_name("N")
      ->group("Model");
}

void add_weight_options(CLI::App& app, const std::string& prefix, const std::string& group,
                        ModelOptions& options) {
  const auto add = [&](const char* name, std::optional<std::string>& target,
                       const std::vector<std::string>& values, const char* description) {
    add_optional(app, prefix + name, target, description)
        ->check(one_of(values))
        ->type_name("NAME")
        ->group(group);
  };
  add("weight-only-fp8", options.weight_only_fp8, {"expand", "keep"},
      "FP8 weights without input_scale: expand on load, or keep a byte each (slower)");
  add("nvfp4-as", options.nvfp4_as, {"bf16", "fp8"},
      "NVFP4 weights in memory: bf16 (exact), or fp8, which is multiplied in FP8 if calibrated");
  add("text-encoder-precision", options.text_encoder_precision, {"bf16", "fp8"},
      "Weights of the large text encoder: bf16 (as computed), or fp8, half the memory");
  add("vae-precision", options.vae_precision, {"auto", "bf16", "f32"},
      "The autoencoder computes in: auto (as everything else, see --dtype), bf16 or f32");
  add_switch(
      app, prefix + "vae-tiling", [&options](bool given) { options.vae_tiling = given; },
      "Autoencoder decodes large pictures in overlapping squares: less memory, other pixels")
      ->group(group);
}

std::string refuse_attention_precision(const std::string& text) {
  if (parse_attention_schedule(text)) return "";
  return fmt::format("{} is not bf16, fp8 or schedule:first=N,last=M", quote(text));
}

void add_dtype_option(CLI::App& app, ModelOptions& options) {
  add_optional(app, "--dtype", options.dtype, "auto (as stored), bf16 or f32")
      ->check(one_of(compute_dtype_names()))
      ->type_name("NAME")
      ->group("Model");
}

std::optional<DType> parse_compute_dtype(const std::string& name) {
  if (name == "auto") return std::nullopt;
  if (name == "bf16" || name == "bfloat16") return DType::kBF16;
  if (name == "f32" || name == "float32") return DType::kF32;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("--dtype: {} is not one of auto, bf16, f32", quote(name)));
}

LoadOptions to_load_options(const ModelOptions& options) {
  LoadOptions load;
  load.model_path =
      options.model_path ? resolve_model_path(*options.model_path) : find_default_model();
  for (const auto& [component, path] : options.component_paths) {
    if (path) load.component_paths[component] = resolve_model_path(*path);
  }
  const auto resolve = [](const std::optional<std::string>& from,
                          std::optional<std::filesystem::path>& to) {
    if (from) to = resolve_model_path(*from);
  };
  resolve(options.transformer_weights_path, load.pipeline.transformer.weights);
  resolve(options.modelopt_backbone, load.pipeline.transformer.modelopt_backbone);
  resolve(options.transformer_2_weights_path, load.pipeline.transformer_2.weights);
  resolve(options.modelopt_backbone_2, load.pipeline.transformer_2.modelopt_backbone);
  load.pipeline.strict_precision = options.strict_precision;
  load.pipeline.format = parse_load_format(options.load_format.value_or("auto")).value();
  load.pipeline.dummy_quantization =
      parse_dummy_quantization(options.dummy_quantization.value_or("none")).value();
  if (const auto& name = options.dummy_quantization_2) {
    load.pipeline.dummy_quantization_2 = parse_dummy_quantization(*name);
  }
  load.pipeline.attention =
      parse_attention_schedule(options.attention_precision.value_or("bf16")).value();
  load.pipeline.policy.keep_fp8 = options.weight_only_fp8 == "keep";
  load.pipeline.policy.nvfp4_as_fp8 = options.nvfp4_as == "fp8";
  load.pipeline.fp8_text_encoder = options.text_encoder_precision == "fp8";
  load.pipeline.vae = parse_vae_precision(options.vae_precision.value_or("auto")).value();
  load.pipeline.vae_tiling = options.vae_tiling.value_or(false);
  load.dtype = parse_compute_dtype(options.dtype.value_or("auto"));
  if (options.device == "cpu") load.device = DeviceChoice::kCpu;
  if (options.device == "cuda") load.device = DeviceChoice::kCuda;
  load.threads = options.threads.value_or(0);
  if (options.max_vram) load.max_vram_bytes = parse_byte_size(*options.max_vram);
  load.pipeline.offload = {.dit_cpu_offload = options.dit_cpu_offload,
                           .dit_layerwise_offload = options.dit_layerwise_offload,
                           .text_encoder_cpu_offload = options.text_encoder_cpu_offload};
  return load;
}

}  // namespace dither::cli
