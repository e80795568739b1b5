#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace dither::cli {

/// Adds `dither completion bash|zsh|fish`: prints a script that completes commands and options.
void add_completion(CLI::App& app);

/// The script for one shell, generated from the commands and options that `app` declares.
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace dither::cli
