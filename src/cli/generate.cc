#include "cli/generate.h"

#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/config_file.h"
#include "cli/generate_options.h"
#include "cli/generation.h"
#include "cli/picture_file.h"

namespace dither::cli {
namespace {

constexpr const char* kNotes = R"(Examples:
  dither generate "a red apple"
  dither generate "a red apple" --seed 7 -o apple.png
  dither generate --prompt-file prompts.txt --grid 4 --output-path emoji
  dither generate --from apple.png --num-inference-steps 40 -o better.png
  dither generate "a cat" --model-path ~/models/flux --transformer-path ~/models/flux-fp8
  dither generate "a red apple" --config settings.yaml --quiet

Without a name, pictures go to out/ and are named after prompt and seed; they never replace a
file. A name given with -o or --output-file-name does. The paths written are printed.
In a configuration file, every option without its dashes is a key; the command line wins.)";

void generate(CLI::App& app, const GenerateOptions& options) {
  if (options.config) apply_config_file(app, *options.config);
  if (options.quiet) log::set_level(log::level::err);
  std::optional<PictureParameters> from;
  if (options.from) from = read_picture_parameters(*options.from);
  Generation(options, make_requests(options, from), make_load_options(options.model, from), from)
      .run();
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App* const command = app.add_subcommand("generate", "Draw pictures from a prompt");
  const auto options = std::make_shared<GenerateOptions>();
  declare_generate_options(*command, *options);
  command->footer(kNotes);
  command->callback([command, options] { generate(*command, *options); });
}

}  // namespace dither::cli
