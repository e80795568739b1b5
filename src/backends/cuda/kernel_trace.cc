#include "backends/cuda/kernel_trace.h"

#include <cupti.h>
#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"

namespace dither::cuda {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{8} << 20U;
constexpr auto kRegion = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
/// Kernels, and what leads from them to regions: CUPTI notes a region only with the records of
/// calls, which libraries make to either API.
constexpr std::array kKinds = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                               CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                               CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_ACTIVITY_KIND_DRIVER};

/// The few functions of CUPTI that a trace needs.
struct Cupti {
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityFlushAll) flush = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityPushExternalCorrelationId) push = nullptr;
  decltype(&cuptiActivityPopExternalCorrelationId) pop = nullptr;
};

template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    throw Error(ErrorCode::kUnsupported, std::string("kernel trace: libcupti has no ") + name);
  }
}

/// Loaded once and kept: CUPTI must not be unloaded while a context lives.
const Cupti& cupti() {
  static const Cupti kLoaded = [] {
    void* library = nullptr;
    for (const char* name : {"libcupti.so.13", "libcupti.so"}) {
      if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    }
    if (library == nullptr) {
      throw Error(ErrorCode::kUnsupported,
                  std::string("kernel trace: needs libcupti of the CUDA 13 toolkit: ") + dlerror());
    }
    Cupti result;
    find(library, "cuptiActivityEnable", result.enable);
    find(library, "cuptiActivityDisable", result.disable);
    find(library, "cuptiActivityRegisterCallbacks", result.register_callbacks);
    find(library, "cuptiActivityFlushAll", result.flush);
    find(library, "cuptiActivityGetNextRecord", result.next_record);
    find(library, "cuptiActivityPushExternalCorrelationId", result.push);
    find(library, "cuptiActivityPopExternalCorrelationId", result.pop);
    return result;
  }();
  return kLoaded;
}

void check_cupti(CUptiResult status, const char* doing) {
  if (status == CUPTI_SUCCESS) return;
  throw Error(ErrorCode::kDevice, std::string("CUPTI: ") + doing + " failed with status " +
                                      std::to_string(static_cast<int>(status)));
}

std::string demangled(const char* name) {
  if (name == nullptr) return "?";
  int status = 0;
  char* const text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 ? text : name;
  std::free(text);  // NOLINT(cppcoreguidelines-no-malloc): __cxa_demangle's interface
  return result;
}

/// What CUPTI's callbacks, plain functions, write to.
struct Collected {
  std::atomic<bool> running = false;
  std::mutex mutex;
  std::vector<std::pair<ops::KernelRecord, std::uint32_t>> kernels;  ///< each with its call
  std::unordered_map<std::uint32_t, std::uint64_t> regions;          ///< by call

  void clear() {
    kernels.clear();
    regions.clear();
  }
};
Collected& collected() {
  static Collected instance;
  return instance;
}

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* max_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(8, kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *max_records = 0;
}

void CUPTIAPI take_buffer(CUcontext /*context*/, std::uint32_t /*stream*/, std::uint8_t* buffer,
                          std::size_t /*size*/, std::size_t valid_bytes) {
  CUpti_Activity* record = nullptr;
  const std::scoped_lock lock(collected().mutex);
  while (valid_bytes > 0 && cupti().next_record(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
    if (record->kind == CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION) {
      const auto* const call = reinterpret_cast<const CUpti_ActivityExternalCorrelation*>(record);
      if (call->externalKind == kRegion) {
        collected().regions[call->correlationId] = call->externalId;
      }
    } else if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      // Later versions of the record only add members at its end.
      const auto* const kernel = reinterpret_cast<const CUpti_ActivityKernel9*>(record);
      collected().kernels.emplace_back(
          ops::KernelRecord{.name = demangled(kernel->name),
                            .begin_ns = static_cast<std::int64_t>(kernel->start),
                            .end_ns = static_cast<std::int64_t>(kernel->end),
                            .region = {}},
          kernel->correlationId);
    }
  }
  std::free(buffer);  // NOLINT(cppcoreguidelines-no-malloc): from give_buffer()
}

}  // namespace

KernelTrace::KernelTrace() {
  if (collected().running.exchange(true)) {
    throw Error(ErrorCode::kInvalidArgument, "kernel trace: another one is running");
  }
  try {
    collected().clear();
    check_cupti(cupti().register_callbacks(give_buffer, take_buffer), "registering callbacks");
    for (const CUpti_ActivityKind kind : kKinds) {
      check_cupti(cupti().enable(kind), "enabling records");
    }
  } catch (...) {
    collected().running = false;
    throw;
  }
}

KernelTrace::~KernelTrace() {
  if (!collected().running) return;
  for (const CUpti_ActivityKind kind : kKinds) cupti().disable(kind);
  cupti().flush(1);
  collected().running = false;
}

void KernelTrace::enter_region(const std::string& path) {
  // Not thrown here: whoever enters a region could not leave it.
  if (cupti().push(kRegion, regions_.size()) != CUPTI_SUCCESS) regions_failed_ = true;
  regions_.push_back(path);
}

void KernelTrace::leave_region() noexcept { cupti().pop(kRegion, nullptr); }

std::vector<ops::KernelRecord> KernelTrace::stop() {
  for (const CUpti_ActivityKind kind : kKinds) {
    check_cupti(cupti().disable(kind), "disabling records");
  }
  check_cupti(cupti().flush(1), "flushing records");
  if (regions_failed_) throw Error(ErrorCode::kDevice, "CUPTI: entering a region failed");
  collected().running = false;
  const std::scoped_lock lock(collected().mutex);
  std::vector<ops::KernelRecord> kernels;
  for (auto& [kernel, call] : collected().kernels) {
    const auto region = collected().regions.find(call);
    if (region != collected().regions.end()) kernel.region = regions_.at(region->second);
    kernels.push_back(std::move(kernel));
  }
  collected().clear();
  std::ranges::sort(kernels, {}, &ops::KernelRecord::begin_ns);
  return kernels;
}

}  // namespace dither::cuda
