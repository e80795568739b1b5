#include "convert/layer_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <utility>

#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither::convert {
namespace {

struct MatchFree {
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const noexcept {
    pcre2_match_context_free(context);
  }
};

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

void LayerPattern::Free::operator()(pcre2_real_code_8* code) const noexcept {
  pcre2_code_free(code);
}

LayerPattern::LayerPattern(std::string pattern) : pattern_(std::move(pattern)) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_.data()), pattern_.size(),
                            PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
  if (!code_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("pattern {} is no regular expression: {} at character {}",
                            quote(pattern_), message_of(error), offset));
  }
}

bool LayerPattern::matches(std::string_view layer) const {
  const std::unique_ptr<pcre2_match_data, MatchFree> data(
      pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  const std::unique_ptr<pcre2_match_context, MatchFree> context(
      pcre2_match_context_create(nullptr));
  constexpr unsigned kMaxSteps = 1'000'000;
  pcre2_set_match_limit(context.get(), kMaxSteps);
  const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(layer.data()),
                                layer.size(), 0, 0, data.get(), context.get());
  if (count >= 0) return true;
  if (count == PCRE2_ERROR_NOMATCH) return false;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("pattern {} on layer {}: {}", quote(pattern_), quote(layer), message_of(count)));
}

}  // namespace dither::convert
