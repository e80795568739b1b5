#include "cli/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

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

/// What CLI11 reads as a switch, but for numbers of times, in letters of either case.
CLI::Validator switch_value() {
  return {[](std::string& text) -> std::string {
            constexpr std::array<std::string_view, 8> kValues = {"true", "false", "yes", "no",
                                                                 "on",   "off",   "1",   "0"};
            const std::string lower = CLI::detail::to_lower(text);
            if (std::ranges::find(kValues, lower) != kValues.end()) return "";
            return fmt::format("{} is not true or false", quote(text));
          },
          ""};
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

CLI::Option* add_switch(CLI::App& app, const std::string& name, std::function<void(bool)> set,
                        const std::string& description) {
  return app
      .add_flag_function(
          name, [set = std::move(set)](std::int64_t value) { set(value > 0); }, description)
      ->check(switch_value())
      ->take_last();
}

CLI::Option* add_switch(CLI::App& app, const std::string& name, bool& target,
                        const std::string& description) {
  return add_switch(app, name, [&target](bool value) { target = value; }, description);
}

std::vector<std::string> long_option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

}  // namespace dither::cli
