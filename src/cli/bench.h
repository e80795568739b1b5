#pragma once

#include <CLI/CLI.hpp>

namespace dither::cli {

/// Adds `dither bench`: times a loaded model from prompt to PNG file.
void add_bench(CLI::App& app);

}  // namespace dither::cli
