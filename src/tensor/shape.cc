#include "tensor/shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace dither {

Dims::Dims(std::initializer_list<std::int64_t> values)
    : Dims(std::span<const std::int64_t>(values.begin(), values.size())) {}

Dims::Dims(std::span<const std::int64_t> values) {
  for (const std::int64_t value : values) push_back(value);
}

void Dims::push_back(std::int64_t value) {
  if (size_ == kMaxRank) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a tensor has at most {} dimensions", kMaxRank));
  }
  values_[static_cast<std::size_t>(size_++)] = value;
}

bool Dims::operator==(const Dims& other) const { return std::ranges::equal(*this, other); }

std::size_t Dims::position(int index) const {
  const int wrapped = index < 0 ? index + size_ : index;
  if (wrapped < 0 || wrapped >= size_) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("dimension {} of a tensor with {}", index, size_));
  }
  return static_cast<std::size_t>(wrapped);
}

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;  // of the extents other than 0: strides are products of those too
  bool is_empty = false;
  for (const std::int64_t extent : shape) {
    const auto product = checked_mul(count, extent);
    if (extent < 0 || !product) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("shape {} has no valid element count", to_string(shape)));
    }
    is_empty = is_empty || extent == 0;
    if (extent != 0) count = *product;
  }
  return is_empty ? 0 : count;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = shape;
  std::int64_t stride = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

std::string to_string(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims.begin(), dims.end(), ", "));
}

}  // namespace dither
