#include "cli/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "cli/suggest.h"
#include "io/untrusted_name.h"

namespace dither::cli {
namespace {

/// The whole of `text` as a number, or nothing.
template <typename T>
std::optional<T> parse_number(const std::string& text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

}  // namespace

CLI::Validator whole_number(std::uint64_t min, std::uint64_t max) {
  return {[min, max](std::string& text) -> std::string {
            const auto value = parse_number<std::uint64_t>(text);
            if (value && *value >= min && *value <= max) return "";
            return fmt::format("{} is not a whole number from {} to {}", quote(text), min, max);
          },
          ""};
}

CLI::Validator decimal_number() {
  return {[](std::string& text) -> std::string {
            const auto value = parse_number<double>(text);
            if (value && std::isfinite(*value)) return "";
            return fmt::format("{} is not a number, such as 3.5", quote(text));
          },
          ""};
}

CLI::Validator one_of(std::vector<std::string> names) {
  return {[names = std::move(names)](std::string& text) -> std::string {
            if (std::ranges::find(names, text) != names.end()) return "";
            return fmt::format("{} is not one of {}{}", quote(text), fmt::join(names, ", "),
                               did_you_mean(text, names));
          },
          ""};
}

std::vector<std::string> long_option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

}  // namespace dither::cli
