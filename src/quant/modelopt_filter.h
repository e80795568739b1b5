#pragma once

#include <span>
#include <string_view>

namespace dither::quant {

/// Layers that NVIDIA ModelOpt's diffusers example leaves unquantized in a model of this class, as
/// patterns for matches_pattern(). Empty for a class that it does not know.
std::span<const std::string_view> modelopt_filter(std::string_view class_name);

}  // namespace dither::quant
