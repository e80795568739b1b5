#include "nn/attention.h"

namespace dither::nn {

ops::AttentionOperands split_heads(const Tensor& qkv, std::int64_t heads) {
  const std::int64_t width = qkv.dim(-1) / 3;
  const auto part = [&](std::int64_t index) {
    return qkv.slice(-1, index * width, (index + 1) * width).unflatten(-1, heads, width / heads);
  };
  return {part(0), part(1), part(2), {}};
}

}  // namespace dither::nn
