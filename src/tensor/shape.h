#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace dither {

/// Up to kMaxRank extents (or strides), stored inline so that views never allocate.
class Dims {
 public:
  static constexpr int kMaxRank = 8;

  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values);
  /// Throws kInvalidArgument beyond kMaxRank.
  explicit Dims(std::span<const std::int64_t> values);

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  /// Negative indices count from the end: dims[-1] is the last extent.
  std::int64_t operator[](int index) const { return values_[position(index)]; }
  std::int64_t& operator[](int index) { return values_[position(index)]; }
  std::int64_t back() const { return (*this)[-1]; }
  void push_back(std::int64_t value);

  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + size_; }

  bool operator==(const Dims& other) const;

 private:
  std::size_t position(int index) const;

  std::array<std::int64_t, kMaxRank> values_{};
  int size_ = 0;
};

using Shape = Dims;
using Strides = Dims;

/// Product of the extents; 1 for a scalar. Throws kInvalidArgument when an extent is negative or
/// the product of the others than 0 overflows.
std::int64_t element_count(const Shape& shape);

/// Row-major strides in elements.
Strides contiguous_strides(const Shape& shape);

/// "[2, 3]" for messages.
std::string to_string(const Dims& dims);

}  // namespace dither
