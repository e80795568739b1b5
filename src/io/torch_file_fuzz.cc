#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "io/torch_file.h"

// Opens a .pt file and reads every tensor: only Error may come out. The file lives in memory.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("torch_file_fuzz", 0);
  if (fd < 0 || ::ftruncate(fd, 0) != 0 ||
      ::pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) {
    std::abort();
  }
  try {
    const auto file = dither::TorchFile::open("/proc/self/fd/" + std::to_string(fd));
    for (const auto& info : file->tensors()) {
      if (dither::element_count(info.shape) < 1 << 16) file->read(info.name);
    }
  } catch (const dither::Error&) {
  }
  return 0;
}
