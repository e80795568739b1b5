#include "tensor/tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "base/checked.h"
#include "base/error.h"

namespace dither {
namespace {

constexpr std::align_val_t kHostAlignment{64};

std::size_t bytes_for(const Shape& shape, DType dtype) {
  const auto bits = checked_mul<std::int64_t>(element_count(shape), dtype_bits(dtype));
  if (!bits) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} {} is too large", dtype_name(dtype), to_string(shape)));
  }
  return (static_cast<std::size_t>(*bits) + 7) / 8;
}

std::shared_ptr<Storage> allocate_host(std::size_t bytes) {
  void* memory = nullptr;
  try {
    memory = ::operator new(bytes, kHostAlignment);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::kResourceExhausted, fmt::format("out of memory for {} bytes", bytes));
  }
  std::shared_ptr<void> owner(memory, [](void* p) { ::operator delete(p, kHostAlignment); });
  return std::make_shared<Storage>(static_cast<std::byte*>(memory), bytes, nullptr, owner);
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device& device) {
  return view(device.allocate(bytes_for(shape, dtype)), 0, shape, dtype);
}

Tensor Tensor::host(const Shape& shape, DType dtype) {
  auto storage = allocate_host(bytes_for(shape, dtype));
  std::fill_n(storage->data(), storage->bytes(), std::byte{0});
  return view(std::move(storage), 0, shape, dtype);
}

Tensor Tensor::view(std::shared_ptr<Storage> storage, std::int64_t offset_bytes, const Shape& shape,
                    DType dtype) {
  const auto end =
      checked_add<std::int64_t>(offset_bytes, static_cast<std::int64_t>(bytes_for(shape, dtype)));
  if (offset_bytes < 0 || !end || *end > static_cast<std::int64_t>(storage->bytes())) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} {} at byte {} leaves a storage of {} bytes", dtype_name(dtype),
                            to_string(shape), offset_bytes, storage->bytes()));
  }
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.shape_ = shape;
  tensor.strides_ = contiguous_strides(shape);
  tensor.storage_ = std::move(storage);
  tensor.offset_bytes_ = offset_bytes;
  return tensor;
}

std::size_t Tensor::bytes() const { return bytes_for(shape_, dtype_); }

bool Tensor::contiguous() const {
  if (elements() == 0) return true;
  std::int64_t expected = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[i] != expected) return false;
    expected *= shape_[i];
  }
  return true;
}

Tensor Tensor::reshape(const Shape& shape) const {
  Shape resolved = shape;
  std::int64_t known = 1;
  int unknown = -1;
  for (int i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1 && unknown < 0) {
      unknown = i;
    } else {
      known *= shape[i];
    }
  }
  if (unknown >= 0 && known > 0) resolved[unknown] = elements() / known;
  if (!contiguous() || element_count(resolved) != elements()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("cannot see {}{} as {}", to_string(*this),
                            contiguous() ? "" : " (strided)", to_string(shape)));
  }
  Tensor result = *this;
  result.shape_ = resolved;
  result.strides_ = contiguous_strides(resolved);
  return result;
}

Tensor Tensor::slice(int dim, std::int64_t begin, std::int64_t end) const {
  if (begin < 0 || begin > end || end > shape_[dim]) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("slice {}:{} of dimension {} of {}", begin,
                                                         end, dim, to_string(*this)));
  }
  if (dtype_bits(dtype_) % 8 != 0) {
    throw Error(ErrorCode::kUnsupported, fmt::format("slice of packed {}", to_string(*this)));
  }
  Tensor result = *this;
  result.shape_[dim] = end - begin;
  result.offset_bytes_ += begin * strides_[dim] * (dtype_bits(dtype_) / 8);
  return result;
}

Tensor Tensor::at(std::int64_t index) const {
  Tensor result = slice(0, index, index + 1);
  result.shape_ = Shape(std::span(shape_.begin() + 1, shape_.end()));
  result.strides_ = Dims(std::span(strides_.begin() + 1, strides_.end()));
  return result;
}

Tensor Tensor::permute(const Dims& order) const {
  Tensor result = *this;
  unsigned seen = 0;
  bool valid = order.size() == rank();
  for (int i = 0; valid && i < rank(); ++i) {
    const std::int64_t source = order[i];
    valid = source >= 0 && source < rank() && (seen >> source & 1U) == 0;
    if (!valid) break;
    seen |= 1U << source;
    result.shape_[i] = shape_[static_cast<int>(source)];
    result.strides_[i] = strides_[static_cast<int>(source)];
  }
  if (!valid) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("permute {} by {}", to_string(*this), to_string(order)));
  }
  if (dtype_bits(dtype_) % 8 != 0) {
    throw Error(ErrorCode::kUnsupported, fmt::format("permute of packed {}", to_string(*this)));
  }
  return result;
}

Tensor Tensor::unflatten(int dim, std::int64_t outer, std::int64_t inner) const {
  if (outer < 0 || inner < 0 || checked_mul(outer, inner) != shape_[dim]) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("cannot split dimension {} of {} into {} x {}", dim, to_string(*this),
                            outer, inner));
  }
  const int position = dim < 0 ? dim + rank() : dim;
  Tensor result = *this;
  result.shape_ = {};
  result.strides_ = {};
  for (int i = 0; i < rank(); ++i) {
    if (i == position) {
      result.shape_.push_back(outer);
      result.strides_.push_back(strides_[i] * inner);
      result.shape_.push_back(inner);
      result.strides_.push_back(strides_[i]);
    } else {
      result.shape_.push_back(shape_[i]);
      result.strides_.push_back(strides_[i]);
    }
  }
  return result;
}

bool is_row_view(const Tensor& tensor) {
  if (tensor.rank() == 0 || tensor.elements() == 0) return true;
  if (tensor.strides()[-1] != 1 && tensor.dim(-1) > 1) return false;
  // Leading dimensions collapse when each stride is the product of the extents inside it.
  std::int64_t expected = -1;
  for (int i = tensor.rank() - 2; i >= 0; --i) {
    if (tensor.dim(i) == 1) continue;
    if (expected >= 0 && tensor.strides()[i] != expected) return false;
    expected = tensor.strides()[i] * tensor.dim(i);
  }
  return true;
}

RowView row_view(const Tensor& tensor) {
  if (!is_row_view(tensor)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} with strides {} is not a matrix of rows", to_string(tensor),
                            to_string(tensor.strides())));
  }
  RowView view;
  view.data = tensor.raw();
  view.cols = tensor.rank() == 0 ? 1 : tensor.dim(-1);
  view.rows = 1;
  view.row_stride = view.cols;
  for (int i = tensor.rank() - 2; i >= 0; --i) {
    if (view.rows == 1 && tensor.dim(i) != 1) view.row_stride = tensor.strides()[i];
    view.rows *= tensor.dim(i);
  }
  return view;
}

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "(absent)";
  return fmt::format("{} {}", dtype_name(tensor.dtype()), to_string(tensor.shape()));
}

}  // namespace dither
