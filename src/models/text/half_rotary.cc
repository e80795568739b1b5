#include "models/text/half_rotary.h"

#include <cmath>

#include "nn/multiply.h"
#include "ops/ops.h"

namespace dither::models {
HalfRotary::HalfRotary(std::span<const std::int64_t> positions, const HalfRotaryShape& shape,
                       DType dtype, ops::Backend& backend) {
  const auto rows = static_cast<std::int64_t>(positions.size());
  const std::int64_t half = shape.head_dim / 2;
  const Tensor cos = Tensor::host({1, rows, shape.heads, shape.head_dim}, DType::kF32);
  const Tensor sin = Tensor::host({1, rows, shape.heads, shape.head_dim}, DType::kF32);
  auto* c = cos.data<float>();
  auto* s = sin.data<float>();
  for (const std::int64_t position : positions) {
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      for (std::int64_t i = 0; i < half; ++i) {
        const float exponent = static_cast<float>(2 * i) / static_cast<float>(shape.head_dim);
        const float frequency = 1.0F / std::pow(static_cast<float>(shape.theta), exponent);
        const float angle = static_cast<float>(position) * frequency;
        c[i] = c[half + i] = std::cos(angle);
        s[half + i] = std::sin(angle);
        s[i] = -s[half + i];
      }
      c += shape.head_dim;
      s += shape.head_dim;
    }
  }
  cos_ = backend.upload(cos, dtype);
  sin_ = backend.upload(sin, dtype);
}

Tensor HalfRotary::operator()(const Tensor& x) const {
  const std::int64_t heads = x.dim(2);
  const std::int64_t half = x.dim(3) / 2;
  const Tensor cos = cos_.slice(2, 0, heads);
  const Tensor sin = sin_.slice(2, 0, heads);
  return ops::add(nn::multiply({x, cos}),
                  nn::multiply({x.slice(-1, half, 2 * half), x.slice(-1, 0, half), sin}));
}

}  // namespace dither::models
