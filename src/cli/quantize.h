#pragma once

#include <CLI/CLI.hpp>

namespace dither::cli {

/// Adds `dither quantize`.
void add_quantize(CLI::App& app);

}  // namespace dither::cli
