#include "pipelines/stage.h"

#include <array>
#include <cstddef>

namespace dither {

const char* stage_name(Stage stage) {
  constexpr std::array kNames = {
      "InputValidationStage",   "TextEncodingStage", "TimestepPreparationStage",
      "LatentPreparationStage", "DenoisingStage",    "DecodingStage",
  };
  return kNames.at(static_cast<std::size_t>(stage));
}

}  // namespace dither
