#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dither::cli {

/// Edits that turn `a` into `b`: insertions, deletions, substitutions and swaps of neighbours
/// (optimal string alignment distance).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate closest to a misspelt word, within a third of its length; else the shortest one
/// that contains the word; else the shortest one with a part that is close; else nothing.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

/// "; did you mean 'x'?" or "".
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace dither::cli
