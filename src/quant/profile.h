#pragma once

#include <span>
#include <string_view>

namespace dither::quant {

/// Layers that SGLang's converter takes back to 16 bits because FP8 hurts the picture there, by
/// model. Its published checkpoints do not list them in "ignore": they are known by their names.
struct Profile {
  std::string_view name;                     ///< "flux1"
  std::string_view class_name;               ///< of the transformer whose layers these are
  std::span<const std::string_view> layers;  ///< names; '#' stands for an index
};

std::span<const Profile> profiles();

/// Null for a class without a profile.
const Profile* profile_of_class(std::string_view class_name);
/// Null for an unknown name.
const Profile* find_profile(std::string_view name);

/// True when the profile takes the layer `name` (without ".weight") back to 16 bits.
bool keeps_16_bit(const Profile& profile, std::string_view name);

}  // namespace dither::quant
