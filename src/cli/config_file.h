#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

namespace dither::cli {

/// One setting of a configuration file, as it would be typed: {"num-inference-steps", "20"}.
struct ConfigEntry {
  std::string name;
  std::string value;
};

/// Reads FILE.json, FILE.yaml or FILE.yml: a map from option names (without dashes in front, `-` or
/// `_` inside) to strings, numbers or true/false. A map inside the map gives dotted names
/// (`component_paths: {vae: DIR}`), null leaves an option at its default.
/// Throws kNotFound, kIo, kDataLoss (malformed), kInvalidArgument (a list, another file ending).
std::vector<ConfigEntry> read_config_file(const std::filesystem::path& path);

/// Gives every option of `command` that the command line left out its value from the file. Throws
/// also kInvalidArgument for a name that is no option, with the nearest one, and for a value that
/// the option refuses.
void apply_config_file(CLI::App& command, const std::filesystem::path& path);

}  // namespace dither::cli
