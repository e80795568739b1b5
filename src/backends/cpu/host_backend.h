#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <memory>
#include <string_view>

#include "backends/cpu/host_memory.h"
#include "base/error.h"
#include "ops/backend.h"

namespace dither::cpu {

/// The part of a backend that both CPU backends share: memory and data movement in host memory.
class HostBackend : public ops::Backend {
 public:
  explicit HostBackend(int threads) : threads_(threads) {}

  std::string_view name() const override { return "cpu"; }
  std::shared_ptr<Storage> allocate(std::size_t bytes) override {
    return memory_.allocate(bytes, this);
  }
  /// Shares the host bytes when dtype and alignment allow; a strided tensor becomes contiguous.
  Tensor upload(const Tensor& host, DType dtype) override;
  Tensor download(const Tensor& tensor) override;
  void copy(const Tensor& from, const Tensor& to) override;
  void synchronize() override {}
  void to_pixels(const Tensor& x, const Tensor& y) override;
  ops::MemoryStats memory() const override { return memory_.stats(); }
  void reset_peak_memory() override { memory_.reset_peak(); }

 protected:
  int threads() const { return threads_; }
  HostMemory& host_memory() { return memory_; }

 private:
  HostMemory memory_;
  int threads_;
};

/// What this backend prepared. Throws kInvalidArgument when another one did.
template <typename Own, typename Prepared>
const Own& prepared_here(const Prepared& weights, std::string_view op) {
  if (const auto* own = dynamic_cast<const Own*>(&weights)) return *own;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{}: the weights were prepared by another backend", op));
}

/// Throws kInvalidArgument, with the index and the table's size, unless every id is in [0, rows).
void check_ids(const Tensor& ids, std::int64_t rows);

}  // namespace dither::cpu
