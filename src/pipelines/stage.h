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

/// SGLang's name of a stage: "DenoisingStage".
const char* stage_name(Stage stage);

}  // namespace dither
