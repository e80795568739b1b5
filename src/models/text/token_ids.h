#pragma once

#include <cstdint>
#include <string_view>

#include "ops/backend.h"
#include "tensor/tensor.h"

namespace dither::models {

/// Token ids on a backend.  ids [B, L] kI32 in host memory. Throws kInvalidArgument unless there is
/// at least one token and every id lies in [0, vocab_size); `model` names the encoder.
Tensor upload_token_ids(const Tensor& ids, std::int64_t vocab_size, std::string_view model,
                        ops::Backend& backend);

}  // namespace dither::models
