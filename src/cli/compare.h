#pragma once

#include <CLI/CLI.hpp>

namespace dither::cli {

/// Adds `dither compare`.
void add_compare(CLI::App& app);

}  // namespace dither::cli
