#include "cli/app.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/bench.h"
#include "cli/compare.h"
#include "cli/completion.h"
#include "cli/convert.h"
#include "cli/generate.h"
#include "cli/inspect.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/quantize.h"
#include "cli/suggest.h"
#include "io/untrusted_name.h"

namespace dither::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  dither generate "a red apple"          draw with the demo model
  dither inspect out/apple.png           what a picture or checkpoint holds
  dither quantize --output-dir fp8       calibrate the demo model, write it in FP8
  dither compare --candidate-transformer-path fp8/transformer --html report.html
  dither bench --dtype bf16,f32          how fast this machine draws
  dither completion bash > ~/.local/share/bash-completion/completions/dither

Exit status: 0, 1 after a failure, 2 for a wrong command line, 130 after Ctrl-C.)";

std::string version_text() {
  return fmt::format("dither {} (commit {}, {}, {})", version(), commit_hash(), DITHER_BUILD_TYPE,
#ifdef __clang__
                     "clang " __clang_version__
#else
                     "GCC " __VERSION__
#endif
  );
}

void build(CLI::App& app) {
  app.description("Draws with quantized diffusion models, natively.");
  app.footer(kExamples);
  app.set_version_flag("--version", version_text(), "Version and build");
  app.get_formatter()->column_width(34);
  add_generate(app);
  add_inspect(app);
  add_convert(app);
  add_quantize(app);
  add_compare(app);
  add_bench(app);
  add_completion(app);
  app.require_subcommand(1);
}

/// argv without the program, long options spelt with '-' ("--num_inference_steps=4" becomes
/// "--num-inference-steps=4"), and an empty value a word of its own: CLI11 would take the next
/// argument for the value of "--prompt=". Reversed, as CLI11 takes a vector.
std::vector<std::string> read_arguments(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  bool options = true;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    options = options && argument != "--";
    if (options && argument.starts_with("--")) {
      const auto name_end = std::ranges::find(argument, '=');
      std::replace(argument.begin(), name_end, '_', '-');
      if (name_end != argument.end() && name_end + 1 == argument.end()) {
        argument.pop_back();
        arguments.push_back(std::move(argument));
        argument.clear();
      }
    }
    arguments.push_back(std::move(argument));
  }
  std::ranges::reverse(arguments);
  return arguments;
}

/// What to say about the first argument that nobody understood.
std::string describe_unknown(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  if (chosen.empty()) {
    const auto rest = app.remaining();
    std::vector<std::string> names = long_option_names(app);
    for (const CLI::App* command : app.get_subcommands(nullptr)) {
      names.push_back(command->get_name());
    }
    return fmt::format("no command {}{}", quote(rest.front()), did_you_mean(rest.front(), names));
  }
  const CLI::App& command = *chosen.front();
  const auto rest = command.remaining();
  const auto option =
      std::ranges::find_if(rest, [](const std::string& text) { return text.starts_with('-'); });
  if (option == rest.end()) {
    return fmt::format("unexpected argument {}; quote a text of several words",
                       quote(rest.front()));
  }
  const std::string name = option->substr(0, option->find('='));
  return fmt::format("{}: unknown option {}{}", command.get_name(), quote(name),
                     did_you_mean(name, long_option_names(command)));
}

/// CLI11's message about a wrong value, in one line: "--width: 'ten' is not a whole number ...".
std::string describe_parse_error(const CLI::App& app, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return describe_unknown(app);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && app.get_subcommands().empty()) {
    if (!app.remaining().empty()) return describe_unknown(app);
    return "which command? dither generate \"a red apple\"; see dither --help";
  }
  std::string text = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    return fmt::format("{}: needs a value", text.substr(0, text.find(':')));
  }
  std::ranges::replace(text, '\n', ' ');
  return text;
}

/// Diagnostics of all rooms as "dither: warning: ...", like our own messages.
void log_to_stderr() {
  const auto logger = spdlog::get("dither");
  log::set_default_logger(logger ? logger : spdlog::stderr_logger_st("dither"));
  log::set_pattern("dither: %l: %v");
}

int report(int status, const std::string& message) {
  fmt::print(stderr, "dither: error: {}\n", message);
  return status;
}

int exit_status(ErrorCode code) {
  if (code == ErrorCode::kCancelled) return interrupt_signal() != 0 ? 128 + interrupt_signal() : 1;
  return code == ErrorCode::kInvalidArgument ? 2 : 1;
}

}  // namespace

int run(int argc, const char* const* argv) {
  log_to_stderr();
  CLI::App app("", "dither");
  try {
    build(app);
    app.parse(read_arguments(argc, argv));
    return 0;
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report(2, describe_parse_error(app, error));
  } catch (const Error& error) {
    return report(exit_status(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return report(1, "out of memory");
  } catch (const std::exception& error) {
    return report(1, error.what());
  }
}

}  // namespace dither::cli
