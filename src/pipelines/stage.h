#pragma once

#include <cstdint>

namespace dither {

/// The stages of a text-to-image pipeline, in SGLang's order.
enum class Stage : std::uint8_t {
  kInputValidation,
  kTextEncoding,
  kTimestepPreparation,
  kLatentPreparation,
  kDenoising,
  kDecoding,
};

}  // namespace dither
