#include "cli/compare.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/compare_limits.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output_names.h"
#include "cli/progress.h"
#include "cli/request_options.h"
#include "io/untrusted_name.h"
#include "runtime/compare.h"

namespace dither::cli {
namespace {

constexpr const char* kNotes = R"(Examples:
  dither compare "a red apple" --candidate-transformer-path fp8/transformer --html report.html
  dither compare "owl" --reference-dtype f32 --candidate-dtype bf16 --output-json owl.json
  dither compare "owl" --candidate-component-path transformer=fp8/transformer --fail-below cosine=0.99
  dither compare --trajectories bf16.safetensors fp8.safetensors
  dither compare --videos bf16.mp4 fp8.mp4 --html report.html

Both sides draw the same prompt from the same seed, the reference first. An option of the model
holds for both sides, unless --reference-... or --candidate-... says otherwise.
Exit status 1 when a limit of --fail-below is missed.)";

/// What only one side is told. Fields left empty are those of both.
struct SideOptions {
  ModelOptions model;
  std::vector<std::string> component_paths;  ///< "transformer=PATH"
};

struct CompareCommand {
  std::string prompt = "a red apple";
  ModelOptions both;
  SideOptions reference;
  SideOptions candidate;
  RequestOptions request;
  int step_index = -1;
  int warmup_runs = 0;
  int measure_runs = 1;
  std::vector<std::string> layer_steps = {"0", "-1"};
  std::vector<std::string> fail_below;
  std::vector<std::string> trajectories;
  std::vector<std::string> videos;
  std::optional<std::string> output_json;
  std::optional<std::string> html;
  bool quiet = false;
};

void add_side(CLI::App& app, const std::string& side, SideOptions& options) {
  const auto add = [&](const char* name, std::optional<std::string>& target, const char* text) {
    return add_optional(app, fmt::format("--{}-{}", side, name), target, text)
        ->type_name("PATH")
        ->group("Only the " + side);
  };
  add("model-path", options.model.model_path, "Model folder");
  for (const char* component :
       {"transformer", "transformer_2", "text_encoder", "text_encoder_2", "vae"}) {
    std::string spelling = component;
    std::ranges::replace(spelling, '_', '-');
    add((spelling + "-path").c_str(), options.model.component_paths[component],
        "Folder in place of the model's");
  }
  app.add_option(fmt::format("--{}-component-path", side), options.component_paths,
                 "The same for any component: vae=DIR")
      ->type_name("NAME=DIR")
      ->group("Only the " + side);
  add("transformer-weights-path", options.model.transformer_weights_path,
      "Weights in place of the transformer's");
  add("modelopt-backbone", options.model.modelopt_backbone, "ModelOpt's backbone.pt");
  add("transformer-2-weights-path", options.model.transformer_2_weights_path,
      "The same for the second transformer");
  add("modelopt-backbone-2", options.model.modelopt_backbone_2,
      "The same for the second transformer");
  add("attention-precision", options.model.attention_precision, "bf16, fp8 or schedule:...")
      ->check(refuse_attention_precision)
      ->type_name("NAME");
  add_weight_options(app, fmt::format("--{}-", side), "Only the " + side, options.model);
  add("dtype", options.model.dtype, "auto (as stored), bf16 or f32")
      ->check(one_of(compute_dtype_names()))
      ->type_name("NAME");
}

/// The options of both sides with one side's in their place.
LoadOptions side_load_options(ModelOptions model, const SideOptions& side) {
  const auto replace = [](auto& field, const auto& own) {
    if (own) field = own;
  };
  replace(model.model_path, side.model.model_path);
  replace(model.dtype, side.model.dtype);
  replace(model.attention_precision, side.model.attention_precision);
  replace(model.weight_only_fp8, side.model.weight_only_fp8);
  replace(model.nvfp4_as, side.model.nvfp4_as);
  replace(model.text_encoder_precision, side.model.text_encoder_precision);
  replace(model.vae_precision, side.model.vae_precision);
  replace(model.vae_tiling, side.model.vae_tiling);
  replace(model.transformer_weights_path, side.model.transformer_weights_path);
  replace(model.modelopt_backbone, side.model.modelopt_backbone);
  replace(model.transformer_2_weights_path, side.model.transformer_2_weights_path);
  replace(model.modelopt_backbone_2, side.model.modelopt_backbone_2);
  for (const auto& [component, path] : side.model.component_paths) {
    replace(model.component_paths[component], path);
  }
  for (const std::string& text : side.component_paths) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("component path {} is not NAME=DIR", quote(text)));
    }
    model.component_paths[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return to_load_options(model);
}

CompareOptions compare_options(const CompareCommand& command) {
  CompareOptions options{.reference = side_load_options(command.both, command.reference),
                         .candidate = side_load_options(command.both, command.candidate),
                         .request = {},
                         .warmup_runs = command.warmup_runs,
                         .measure_runs = command.measure_runs,
                         .step_index = command.step_index,
                         .layer_steps = {}};
  options.request.prompt = command.prompt;
  options.request.seed = 42;
  apply_request_options(command.request, options.request);
  plan_for(options.request, options.reference);
  plan_for(options.request, options.candidate);
  if (options.request.num_outputs_per_prompt != 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "--num-outputs-per-prompt: a comparison is of one picture or video");
  }
  if (command.layer_steps != std::vector<std::string>{"none"}) {
    for (const std::string& step : command.layer_steps) {
      int value = 0;
      if (!CLI::detail::lexical_cast(step, value)) {
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("--layer-steps: {} is not a step such as 0 or -1", quote(step)));
      }
      options.layer_steps.push_back(value);
    }
  }
  return options;
}

Comparison run(const CompareCommand& command) {
  if (!command.videos.empty()) return compare_video_files(command.videos[0], command.videos[1]);
  if (command.trajectories.empty()) {
    ProgressDisplay display(stderr, isatty(STDERR_FILENO) != 0);
    return compare_models(compare_options(command), [&](const Progress& progress) {
      if (!command.quiet) display.update(progress);
      return interrupt_signal() == 0;
    });
  }
  return compare_trajectory_files(command.trajectories[0], command.trajectories[1],
                                  command.step_index);
}

/// The lines that SGLang's comparison prints, and what the layers hold in memory.
void print_summary(const CompareCommand& command, const Comparison& comparison) {
  constexpr double kMiB = 1024.0 * 1024.0;
  if (command.output_json) fmt::print("output_json={}\n", *command.output_json);
  if (command.html) fmt::print("html={}\n", *command.html);
  const bool has_steps = !comparison.steps.empty();
  if (has_steps) fmt::print("trajectory_selected_step={}\n", comparison.selected_step);
  const std::array<std::pair<const char*, const ComparedSide*>, 2> sides = {
      {{"reference", &comparison.reference}, {"candidate", &comparison.candidate}}};
  for (const auto& [name, side] : sides) {
    if (side->generation_time_s.empty()) continue;
    fmt::print("{}_avg_generation_time_s={:.3f}\n", name, mean(side->generation_time_s));
    fmt::print("{}_transformer_weights_mb={:.2f}\n", name,
               static_cast<double>(side->transformer_weight_bytes) / kMiB);
  }
  for (const auto& [name, similarity] : comparison.embeddings) {
    fmt::print("{}_cosine={:.6f}\n", name, similarity.cosine);
    fmt::print("{}_relative_l2={:.6f}\n", name, similarity.relative_l2);
  }
  if (has_steps) {
    const Similarity& latents = comparison.selected().similarity;
    fmt::print("trajectory_cosine={:.6f}\n", latents.cosine);
    fmt::print("trajectory_mae={:.6f}\n", latents.mae);
    fmt::print("trajectory_relative_l2={:.6f}\n", latents.relative_l2);
  }
  if (!comparison.frames.empty()) {
    fmt::print("frame0_psnr_db={:.4f}\n", comparison.frames.front().psnr_db);
    fmt::print("frame0_mae={:.4f}\n", comparison.frames.front().pixels.mae);
    if (comparison.frames.size() > 1) {
      fmt::print("all_frames_psnr_db={:.4f}\n", comparison.all_frames.psnr_db);
    }
  }
  std::fflush(stdout);
}

void compare(const CompareCommand& command) {
  std::vector<Limit> limits;
  for (const std::string& text : command.fail_below) limits.push_back(parse_limit(text));
  if (command.output_json) check_writable(*command.output_json);
  if (command.html) check_writable(*command.html);
  const Comparison comparison = run(command);
  if (command.output_json) write_file(*command.output_json, comparison_json(comparison));
  if (command.html) write_file(*command.html, comparison_html(comparison));
  print_summary(command, comparison);
  check_limits(comparison, limits);
}

}  // namespace

void add_compare(CLI::App& app) {
  CLI::App* const command =
      app.add_subcommand("compare", "Measure how far a model's pictures are from another's");
  const auto options = std::make_shared<CompareCommand>();
  const auto add_int = [&](const char* name, int& target, const char* text) {
    return command->add_option(name, target, text)->take_last()->type_name("N");
  };
  command->add_option("prompt,--prompt", options->prompt, "What to draw (a red apple)")
      ->take_last()
      ->type_name("TEXT");
  add_optional(*command, "--output-json", options->output_json, "Write every number as JSON")
      ->type_name("FILE");
  add_optional(*command, "--html", options->html, "Write a report for the browser")
      ->type_name("FILE");
  command
      ->add_option("--fail-below", options->fail_below,
                   "cosine=X or psnr=X (dB): exit with 1 below it; repeatable")
      ->type_name("METRIC=X");
  CLI::Option* const trajectories =
      command
          ->add_option("--trajectories", options->trajectories,
                       "Compare two files of generate --save-trajectory and run nothing")
          ->expected(2)
          ->type_name("FILE");
  command
      ->add_option("--videos", options->videos,
                   "Compare two .mp4, .webp or folders of frames and run nothing")
      ->expected(2)
      ->type_name("FILE")
      ->excludes(trajectories);
  add_int("--step-index", options->step_index, "Step whose metrics count (-1, the last)");
  add_int("--warmup-runs", options->warmup_runs, "Runs before (0)")->check(whole_number(0, 1000));
  add_int("--measure-runs", options->measure_runs, "Measured runs (1)")
      ->check(whole_number(1, 1000));
  command
      ->add_option("--layer-steps", options->layer_steps,
                   "Steps at which to compare single layers (0,-1), or none")
      ->delimiter(',')
      ->type_name("N");
  add_switch(*command, "--quiet", options->quiet, "No progress");
  add_request_options(*command, options->request);
  add_model_options(*command, options->both);
  add_dtype_option(*command, options->both);
  add_side(*command, "reference", options->reference);
  add_side(*command, "candidate", options->candidate);
  command->footer(kNotes);
  command->callback([options] { compare(*options); });
}

}  // namespace dither::cli
