#pragma once

#include <CLI/CLI.hpp>

namespace dither::cli {

/// Adds `dither convert`: a ModelOpt FP8 export -> a transformer folder that SGLang loads too.
void add_convert(CLI::App& app);

}  // namespace dither::cli
