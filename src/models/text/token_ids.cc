#include "models/text/token_ids.h"

#include <fmt/format.h>

#include <span>

#include "base/error.h"

namespace dither::models {

Tensor upload_token_ids(const Tensor& ids, std::int64_t vocab_size, std::string_view model,
                        ops::Backend& backend) {
  if (!ids.defined() || ids.device() != nullptr || ids.dtype() != DType::kI32 || ids.rank() != 2 ||
      !ids.contiguous() || ids.elements() == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: token ids are {}, expected I32 [B, L] in host memory", model,
                            to_string(ids)));
  }
  for (const std::int32_t id :
       std::span(ids.data<std::int32_t>(), static_cast<std::size_t>(ids.elements()))) {
    if (id < 0 || id >= vocab_size) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: token id {} is outside of the vocabulary of {}", model, id, vocab_size));
    }
  }
  return backend.upload(ids, DType::kI32);
}

}  // namespace dither::models
