#include "quant/config.h"

#include <algorithm>

namespace dither::quant {

std::string_view format_name(Format format) {
  switch (format) {
    case Format::kNone:
      return "none";
    case Format::kFp8:
      return "fp8";
    case Format::kNvfp4:
      return "nvfp4";
  }
  return "unknown";
}

bool matches_pattern(std::string_view pattern, std::string_view name) {
  // Greedy matching with one point of return: the last '*' and where its run would end next.
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

const std::string* find_pattern(const std::vector<std::string>& patterns, std::string_view name) {
  const auto found = std::ranges::find_if(
      patterns, [&](const std::string& pattern) { return matches_pattern(pattern, name); });
  return found == patterns.end() ? nullptr : &*found;
}

bool is_ignored(const Config& config, std::string_view name) {
  return find_pattern(config.ignore, name) != nullptr;
}

Format format_of(const Config& config, std::string_view name) {
  if (const auto named = config.layers.find(name); named != config.layers.end()) {
    return named->second;
  }
  return is_ignored(config, name) ? Format::kNone : config.format;
}

}  // namespace dither::quant
