#include "backends/cuda/virtual_range.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <spdlog/spdlog.h>

#include <string>

#include "backends/cuda/driver.h"

namespace dither::cuda {
namespace {

CUmemAllocationProp on_current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "find the device");
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  return properties;
}

}  // namespace

struct VirtualRange::Driver {
  decltype(&cuMemGetAllocationGranularity) granularity =
      driver_function<decltype(cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity");
  decltype(&cuMemAddressReserve) reserve =
      driver_function<decltype(cuMemAddressReserve)>("cuMemAddressReserve");
  decltype(&cuMemAddressFree) free =
      driver_function<decltype(cuMemAddressFree)>("cuMemAddressFree");
  decltype(&cuMemCreate) create = driver_function<decltype(cuMemCreate)>("cuMemCreate");
  decltype(&cuMemRelease) release = driver_function<decltype(cuMemRelease)>("cuMemRelease");
  decltype(&cuMemMap) map = driver_function<decltype(cuMemMap)>("cuMemMap");
  decltype(&cuMemUnmap) unmap = driver_function<decltype(cuMemUnmap)>("cuMemUnmap");
  decltype(&cuMemSetAccess) set_access =
      driver_function<decltype(cuMemSetAccess)>("cuMemSetAccess");

  static const Driver& get() {
    static const Driver kDriver;
    return kDriver;
  }
};

VirtualRange::VirtualRange(DeviceMemory& memory, std::size_t bytes)
    : memory_(memory), driver_(Driver::get()) {
  const CUmemAllocationProp properties = on_current_device();
  check_driver(
      driver_.granularity(&granularity_, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
      "ask for the granularity of memory");
  bytes_ = (bytes + granularity_ - 1) / granularity_ * granularity_;
  CUdeviceptr address = 0;
  check_driver(driver_.reserve(&address, bytes_, 0, 0, 0), "reserve addresses");
  data_ = reinterpret_cast<std::byte*>(address);  // NOLINT(performance-no-int-to-ptr)
}

VirtualRange::~VirtualRange() {
  unmap();
  driver_.free(reinterpret_cast<CUdeviceptr>(data_), bytes_);
}

void VirtualRange::map(std::size_t bytes) {
  if (bytes <= mapped_bytes_) return;
  const std::size_t more = (bytes - mapped_bytes_ + granularity_ - 1) / granularity_ * granularity_;
  const CUmemAllocationProp properties = on_current_device();
  CUmemGenericAllocationHandle handle = 0;
  memory_.take(more, [&] { return driver_.create(&handle, more, &properties, 0) == CUDA_SUCCESS; });
  const auto address = reinterpret_cast<CUdeviceptr>(data_ + mapped_bytes_);
  const CUresult mapped = driver_.map(address, more, 0, handle, 0);
  driver_.release(handle);  // the mapping keeps the memory
  if (mapped != CUDA_SUCCESS) {
    memory_.gave_back(more);
    check_driver(mapped, "map memory");
  }
  const CUmemAccessDesc access{properties.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  if (const CUresult opened = driver_.set_access(address, more, &access, 1);
      opened != CUDA_SUCCESS) {
    driver_.unmap(address, more);
    memory_.gave_back(more);
    check_driver(opened, "open memory for access");
  }
  pieces_.emplace(mapped_bytes_, more);
  mapped_bytes_ += more;
}

void VirtualRange::unmap(std::size_t offset) noexcept {
  const std::size_t bytes = pieces_.extract(offset).mapped();
  const CUresult status = driver_.unmap(reinterpret_cast<CUdeviceptr>(data_ + offset), bytes);
  if (status != CUDA_SUCCESS) {
    spdlog::warn("cuda: unmapping {} bytes: the driver answers {}", bytes,
                 static_cast<int>(status));
  }
  memory_.gave_back(bytes);
  if (pieces_.empty()) mapped_bytes_ = 0;
}

void VirtualRange::unmap() noexcept {
  while (!pieces_.empty()) unmap(pieces_.begin()->first);
}

}  // namespace dither::cuda
