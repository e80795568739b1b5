#pragma once

#include <CLI/CLI.hpp>

namespace dither::cli {

/// Adds `dither inspect`: what a checkpoint, a component, a model folder or a picture holds.
void add_inspect(CLI::App& app);

}  // namespace dither::cli
