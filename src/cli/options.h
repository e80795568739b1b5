#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace dither::cli {

/// A check that says in one sentence which values would be right: a whole number in [min, max].
CLI::Validator whole_number(std::uint64_t min, std::uint64_t max);

/// A finite decimal number.
CLI::Validator decimal_number();

/// One of `names`; a misspelt one is answered with the nearest.
CLI::Validator one_of(std::vector<std::string> names);

/// An option that takes one value and leaves `target` empty when it is not given. The last of
/// several wins, so that an alias or a script can be overridden. CLI11's own std::optional support
/// would drop an empty string.
template <typename T>
CLI::Option* add_optional(CLI::App& app, const std::string& names, std::optional<T>& target,
                          const std::string& description) {
  return app
      .add_option_function<T>(
          names, [&target](const T& value) { target = value; }, description)
      ->take_last();
}

/// An option that needs no value: `--quiet` is `--quiet=true`. The last of several wins.
CLI::Option* add_switch(CLI::App& app, const std::string& name, std::function<void(bool)> set,
                        const std::string& description);
CLI::Option* add_switch(CLI::App& app, const std::string& name, bool& target,
                        const std::string& description);

/// The long spellings of every option of `app`, with their dashes: candidates for suggestions.
std::vector<std::string> long_option_names(const CLI::App& app);

}  // namespace dither::cli
