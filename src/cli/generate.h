#pragma once

#include <CLI/CLI.hpp>

namespace dither::cli {

/// Adds `dither generate`: prompts -> PNG files, whose paths it prints.
void add_generate(CLI::App& app);

}  // namespace dither::cli
