#include "cli/quantize.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <memory>
#include <optional>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/options.h"
#include "cli/output_names.h"
#include "cli/progress.h"
#include "cli/prompts.h"
#include "io/untrusted_name.h"
#include "media/image_file.h"
#include "runtime/quantize.h"

namespace dither::cli {
namespace {

constexpr const char* kNotes = R"(Examples:
  dither quantize --output-dir fp8                      the demo model, its example prompts
  dither quantize --model-path ~/models/flux --calib-prompts prompts.txt --n-steps 20 \
      --output-dir ~/models/flux-fp8 --json amax.json
  dither quantize --output-dir fp8 --profile flux1 --ignore 'single_transformer_blocks.37.*'
  dither generate "a red apple" --transformer-path fp8/transformer

Draws the prompts with the unquantized model, records the largest magnitude that enters every
linear layer, and writes DIR/transformer as ModelOpt exports it: E4M3 weights with one scale,
one static scale for the activations. The same seed gives the same bytes.)";

struct QuantizeCommand {
  ModelOptions model;
  std::string output_dir;
  std::string component = "transformer";
  std::vector<std::string> calib_prompts;
  std::vector<std::string> image_paths;
  std::optional<int> n_steps;
  std::uint64_t seed = 42;
  std::string amax = "max";
  std::vector<std::string> ignore;
  std::string profile = "modelopt";
  std::optional<std::string> json;
  bool overwrite = false;
  bool quiet = false;
};

/// "max" -> nothing, "percentile=99.99" -> 99.99.
std::optional<double> parse_amax(const std::string& text) {
  constexpr std::string_view kPercentile = "percentile=";
  if (text == "max") return std::nullopt;
  double percent = 0;
  if (text.starts_with(kPercentile)) {
    const char* const end = text.data() + text.size();
    const auto [stop, failed] = std::from_chars(text.data() + kPercentile.size(), end, percent);
    if (failed == std::errc() && stop == end && percent > 0 && percent <= 100) return percent;
  }
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("--amax: {} is neither max nor percentile=P with 0 < P <= 100", quote(text)));
}

QuantizeOptions to_options(const QuantizeCommand& command) {
  QuantizeOptions options{.load = to_load_options(command.model),
                          .output_dir = command.output_dir,
                          .component = command.component,
                          .prompts = {},
                          .references = {},
                          .num_inference_steps = command.n_steps,
                          .seed = command.seed,
                          .profile = command.profile,
                          .ignore = command.ignore,
                          .input_percentile = parse_amax(command.amax),
                          .overwrite = command.overwrite};
  for (const std::string& file : command.calib_prompts) {
    const auto prompts = read_prompts(file, "--calib-prompts");
    options.prompts.insert(options.prompts.end(), prompts.begin(), prompts.end());
  }
  for (const std::string& path : command.image_paths) {
    options.references.push_back({.path = path, .image = read_image(path)});
  }
  return options;
}

void quantize(const QuantizeCommand& command) {
  if (command.json) check_writable(*command.json);
  ProgressDisplay display(stderr, isatty(STDERR_FILENO) != 0);
  const QuantizeReport report = quantize_fp8(
      to_options(command), {.calibration =
                                [&](const Progress& progress) {
                                  if (!command.quiet) display.update(progress);
                                  return interrupt_signal() == 0;
                                },
                            .tensors = [](auto, auto) { return interrupt_signal() == 0; }});
  display.clear();
  if (command.json) write_file(*command.json, to_json(report));
  if (command.quiet) return;
  fmt::print("{}\n", report.transformer.string());
  fmt::print(stderr, "{} layers FP8, {} as they were; amax over {} prompts x {} steps\n",
             report.layers.size(), report.kept.size(), report.prompts.size(),
             report.num_inference_steps);
}

}  // namespace

void add_quantize(CLI::App& app) {
  CLI::App* const command =
      app.add_subcommand("quantize", "Calibrate a model and write its transformer in FP8");
  const auto options = std::make_shared<QuantizeCommand>();
  command
      ->add_option("--output-dir", options->output_dir,
                   "Gets a folder transformer/ (or transformer_2/)")
      ->required()
      ->take_last()
      ->type_name("DIR");
  command
      ->add_option("--component", options->component,
                   "transformer, or transformer_2 of a model with two (transformer)")
      ->check(one_of({"transformer", "transformer_2"}))
      ->take_last()
      ->type_name("NAME");
  command
      ->add_option("--calib-prompts", options->calib_prompts,
                   "Prompts to calibrate with, one a line, instead of the model's; repeatable")
      ->type_name("FILE");
  command
      ->add_option("--image-path", options->image_paths,
                   "Picture of every prompt, for models that take one: PNG, JPEG, WebP")
      ->type_name("FILE");
  add_optional(*command, "--n-steps", options->n_steps, "Denoising steps of each prompt")
      ->check(whole_number(1, 10'000))
      ->type_name("N");
  command->add_option("--seed", options->seed, "Of the first prompt, the next one has +1 (42)")
      ->check(whole_number(0, std::numeric_limits<std::uint64_t>::max()))
      ->take_last()
      ->type_name("N");
  command->add_option("--amax", options->amax, "Of inputs: max, or percentile=99.99 (max)")
      ->take_last()
      ->type_name("RULE");
  command
      ->add_option("--ignore", options->ignore,
                   "Layers that stay 16-bit, * for any characters; repeatable")
      ->type_name("PATTERN");
  command
      ->add_option("--profile", options->profile,
                   "modelopt: leave out what ModelOpt does; none: nothing; flux1, flux2: more")
      ->check(one_of(quantize_profile_names()))
      ->take_last()
      ->type_name("NAME");
  add_optional(*command, "--json", options->json, "Write every amax and scale")->type_name("FILE");
  add_switch(*command, "--overwrite", options->overwrite, "Replace an existing transformer/");
  add_switch(*command, "--quiet", options->quiet, "Print nothing");
  add_model_options(*command, options->model);
  add_dtype_option(*command, options->model);
  command->footer(kNotes);
  command->callback([options] { quantize(*options); });
}

}  // namespace dither::cli
