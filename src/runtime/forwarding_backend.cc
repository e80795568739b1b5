#include "runtime/forwarding_backend.h"

namespace dither {

std::shared_ptr<Storage> ForwardingBackend::adopt(std::shared_ptr<Storage> storage) {
  std::byte* const data = storage->data();
  const std::size_t bytes = storage->bytes();
  return std::make_shared<Storage>(data, bytes, this, std::move(storage));
}

std::shared_ptr<Storage> ForwardingBackend::allocate(std::size_t bytes) {
  return adopt(inner_->allocate(bytes));
}

Tensor ForwardingBackend::upload(const Tensor& host, DType dtype) {
  const Tensor uploaded = inner_->upload(host, dtype);
  const std::shared_ptr<Storage>& storage = uploaded.storage();
  return Tensor::view(adopt(storage), uploaded.raw() - storage->data(), uploaded.shape(),
                      uploaded.dtype());
}

}  // namespace dither
