#pragma once

#include <optional>

namespace dither {

/// a * b, or nothing when the product does not fit. For sizes that come from files.
template <typename T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T result{};
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

/// a + b, or nothing when the sum does not fit.
template <typename T>
constexpr std::optional<T> checked_add(T a, T b) {
  T result{};
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

}  // namespace dither
