#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/mapped_file.h"
#include "tensor/bfloat16.h"
#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace dither {

/// A block of bytes with its owner: a backend's buffer, a mapped file, plain host memory.
class Storage {
 public:
  /// `owner` keeps the bytes alive. `device` is null for plain host memory.
  Storage(std::byte* data, std::size_t bytes, Device* device, std::shared_ptr<const void> owner)
      : data_(data), bytes_(bytes), device_(device), owner_(std::move(owner)) {}
  /// Bytes of a file. Writable by type only: the kernel lets nobody write to them.
  Storage(std::span<const std::byte> bytes, const std::shared_ptr<const MappedFile>& file)
      : Storage(const_cast<std::byte*>(bytes.data()), bytes.size(), nullptr, file) {
    file_ = file.get();
  }

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device* device() const { return device_; }
  /// Where the bytes can be read instead of touched; null where they are of no file.
  const MappedFile* file() const { return file_; }

 private:
  std::byte* data_;
  std::size_t bytes_;
  Device* device_;
  std::shared_ptr<const void> owner_;
  const MappedFile* file_ = nullptr;  ///< which owner_ keeps open
};

/// A cheap, strided view of shared Storage. Copying a Tensor copies the view, never the elements.
/// Strides count elements. Views of sub-byte types are contiguous.
class Tensor {
 public:
  /// The absent tensor: defined() is false. Optional operands (a bias, a gate) use it.
  Tensor() = default;

  /// Uninitialised, contiguous, on a device.
  static Tensor empty(const Shape& shape, DType dtype, Device& device);
  /// Zeroed, contiguous, in plain host memory.
  static Tensor host(const Shape& shape, DType dtype);
  /// A contiguous view of existing bytes that starts `offset_bytes` into `storage`. The start need
  /// not be aligned. Throws kInvalidArgument when the view would leave the storage.
  static Tensor view(std::shared_ptr<Storage> storage, std::int64_t offset_bytes,
                     const Shape& shape, DType dtype);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  const Strides& strides() const { return strides_; }
  std::int64_t dim(int index) const { return shape_[index]; }
  int rank() const { return shape_.size(); }
  std::int64_t elements() const { return element_count(shape_); }
  /// Bytes of the elements themselves, whatever the strides.
  std::size_t bytes() const;
  bool contiguous() const;
  Device* device() const { return storage_ ? storage_->device() : nullptr; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  /// Address of element 0.
  std::byte* raw() const { return storage_->data() + offset_bytes_; }
  template <typename T>
  T* data() const {
    return reinterpret_cast<T*>(raw());
  }

  /// The same elements under another shape; one extent may be -1. Needs a contiguous tensor.
  Tensor reshape(const Shape& shape) const;
  /// Elements [begin, end) of dimension `dim`; negative `dim` counts from the end.
  Tensor slice(int dim, std::int64_t begin, std::int64_t end) const;
  /// Element `index` of the first dimension, without that dimension.
  Tensor at(std::int64_t index) const;
  /// Dimension i of the result is dimension order[i] of this tensor.
  Tensor permute(const Dims& order) const;
  /// Splits dimension `dim` into (outer, inner), also on a strided view.
  Tensor unflatten(int dim, std::int64_t outer, std::int64_t inner) const;

 private:
  DType dtype_ = DType::kF32;
  Shape shape_;
  Strides strides_;
  std::shared_ptr<Storage> storage_;
  std::int64_t offset_bytes_ = 0;
};

/// A tensor seen as a matrix: all leading dimensions become rows, the last one the columns.
struct RowView {
  std::byte* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;  ///< in elements

  template <typename T>
  T* row(std::int64_t index) const {
    return reinterpret_cast<T*>(data) + index * row_stride;
  }
};

/// True when `tensor` can be seen through a RowView without copying: unit stride in the last
/// dimension, leading dimensions that collapse into one.
bool is_row_view(const Tensor& tensor);

/// Throws kInvalidArgument unless is_row_view(tensor).
RowView row_view(const Tensor& tensor);

/// "BF16 [2, 3]" for messages.
std::string to_string(const Tensor& tensor);

}  // namespace dither
