#pragma once

#include "io/json_config.h"
#include "models/text/t5_encoder.h"

namespace dither {

/// config.json of transformers' T5EncoderModel and UMT5EncoderModel, validated; what is refused
/// stands in component_configs.h. Decoder and training keys are passed over.
models::T5Config parse_t5_config(const JsonConfig& json);
models::T5Config parse_umt5_config(const JsonConfig& json);

}  // namespace dither
