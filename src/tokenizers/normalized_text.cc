#include "tokenizers/normalized_text.h"

#include <fmt/format.h>

#include <numeric>

#include "base/error.h"

namespace dither {

NormalizedText::NormalizedText(std::string_view source, std::size_t offset)
    : text(source), origins(source.size()) {
  std::iota(origins.begin(), origins.end(), static_cast<std::uint32_t>(offset));
}

void NormalizedText::reserve(std::size_t bytes) {
  text.reserve(bytes);
  origins.reserve(bytes);
}

void NormalizedText::append(std::string_view characters, std::uint32_t origin) {
  if (characters.size() > kMaxTextBytes - text.size()) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("text grows beyond {} bytes while it is normalised", kMaxTextBytes));
  }
  text.append(characters);
  origins.insert(origins.end(), characters.size(), origin);
}

void NormalizedText::append(const NormalizedText& other, std::size_t begin, std::size_t end) {
  text.append(other.text, begin, end - begin);
  origins.insert(origins.end(), other.origins.begin() + static_cast<std::ptrdiff_t>(begin),
                 other.origins.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace dither
