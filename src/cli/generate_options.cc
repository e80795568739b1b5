#include "cli/generate_options.h"

#include <fmt/format.h>

#include "base/error.h"
#include "cli/options.h"
#include "cli/prompts.h"

namespace dither::cli {

void declare_generate_options(CLI::App& app, GenerateOptions& options) {
  add_optional(app, "prompt,--prompt", options.prompt, "What to draw")->type_name("TEXT");
  add_optional(app, "--prompt-file", options.prompt_file, "A prompt on each line; - reads stdin")
      ->type_name("FILE");
  add_optional(app, "--from", options.from,
               "Repeat a picture byte for byte; other options change it")
      ->type_name("PNG");
  add_optional(app, "--config", options.config, "More options, from .json or .yaml")
      ->type_name("FILE")
      ->configurable(false);
  add_request_options(app, options.request);
  add_model_options(app, options.model);
  add_dtype_option(app, options.model);
  const auto add_output = [&](const char* names, std::optional<std::string>& target,
                              const char* type, const char* description) {
    add_optional(app, names, target, description)->type_name(type)->group("Output");
  };
  add_output("-o,--output", options.output.output, "FILE",
             "Name of the picture, or of the video: .mp4, .webp, or frames/ for PNGs");
  add_output("--output-path", options.output.output_path, "DIR", "Folder, out/ by default");
  add_output("--output-file-name", options.output.output_file_name, "NAME",
             "Name in the folder; with several outputs name-0.png, name-1.png, ...");
  add_optional(app, "--grid", options.grid, "Also write all pictures as one sheet, N in a row")
      ->check(whole_number(1, 1000))
      ->type_name("N")
      ->group("Output");
  add_output("--save-trajectory", options.save_trajectory, "FILE",
             "Latents after every step, timesteps, sigmas, embeddings as .safetensors");
  add_output("--perf-dump-path", options.perf_dump_path, "FILE", "Times of stages and steps, JSON");
  add_switch(app, "--quiet", options.quiet, "Print nothing but errors")->group("Output");
}

namespace {

/// A PNG's text chunks end at a NUL: such a prompt could not be written into its picture.
void refuse_nul(const char* option, const std::string& text) {
  if (const auto at = text.find('\0'); at != std::string::npos) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: byte {} is NUL", option, at));
  }
}

}  // namespace

std::vector<GenerateRequest> make_requests(const GenerateOptions& options,
                                           const std::optional<PictureParameters>& from) {
  if (options.prompt && options.prompt_file) {
    throw Error(ErrorCode::kInvalidArgument, "--prompt and --prompt-file exclude each other");
  }
  GenerateRequest common = from ? to_request(*from) : GenerateRequest{};
  apply_request_options(options.request, common);
  common.record_trajectory = options.save_trajectory.has_value();

  std::vector<std::string> prompts;
  if (options.prompt_file) {
    prompts = read_prompts(*options.prompt_file);
  } else if (options.prompt) {
    prompts = {*options.prompt};
  } else if (from) {
    prompts = {common.prompt};
  } else {
    throw Error(ErrorCode::kInvalidArgument,
                "what shall it draw? dither generate \"a red apple\"; see dither generate --help");
  }
  std::vector<GenerateRequest> requests;
  refuse_nul("negative prompt", common.negative_prompt.value_or(""));
  for (std::string& prompt : prompts) {
    refuse_nul("prompt", prompt);
    requests.push_back(common);
    requests.back().prompt = std::move(prompt);
  }
  return requests;
}

LoadOptions make_load_options(ModelOptions options, const std::optional<PictureParameters>& from) {
  if (from) {
    if (from->load_format == LoadFormat::kDummy) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--from: drawn with dummy weights, which are for timing; it cannot be repeated");
    }
    if (!options.model_path) options.model_path = from->model_path;
    for (const auto& [component, path] : from->component_paths) {
      if (!options.component_paths[component]) options.component_paths[component] = path;
    }
    if (!options.device) options.device = from->device;
  }
  LoadOptions load = to_load_options(options);
  if (!from) return load;
  if (!options.dtype) load.dtype = from->dtype;
  PipelineOptions& pipeline = load.pipeline;
  if (!options.attention_precision) pipeline.attention = from->attention;
  if (!options.weight_only_fp8) pipeline.policy.keep_fp8 = from->policy.keep_fp8;
  if (!options.nvfp4_as) pipeline.policy.nvfp4_as_fp8 = from->policy.nvfp4_as_fp8;
  if (!options.text_encoder_precision) pipeline.fp8_text_encoder = from->fp8_text_encoder;
  if (!options.vae_precision) pipeline.vae = from->vae;
  if (!options.vae_tiling) pipeline.vae_tiling = from->vae_tiling;
  return load;
}

}  // namespace dither::cli
