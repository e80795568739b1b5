#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "convert/fp8_plan.h"

namespace dither::convert {

/// Writes what was planned into an existing, empty `folder`: shards, index, config.json and copies
/// of the export's other files, then opens the result again and holds it against the plan. Tensors
/// pass through in pieces, so memory does not grow with the checkpoint. Adds what was clamped to
/// plan.report. Throws kDataLoss (a weight is not finite; what was read back is not what was
/// written), kResourceExhausted, kIo.
void write_modelopt_fp8(Fp8Plan& plan, const Fp8Inputs& inputs, const std::filesystem::path& folder,
                        const std::function<void(std::uint64_t, std::uint64_t)>& progress);

}  // namespace dither::convert
