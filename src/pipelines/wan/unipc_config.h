#pragma once

#include "io/json_config.h"
#include "schedulers/unipc.h"

namespace dither {

/// scheduler_config.json of a UniPCMultistepScheduler, validated; what is refused stands in
/// component_configs.h. Keys of noise schedules that flow matching does not use are passed over.
schedulers::UniPcConfig parse_unipc_config(const JsonConfig& json);

}  // namespace dither
