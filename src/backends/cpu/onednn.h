#pragma once

#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "backends/cpu/host_memory.h"
#include "ops/types.h"
#include "tensor/tensor.h"

namespace dither::cpu {

/// oneDNN's engine and stream with what every primitive here shares: the scratchpad and the number
/// of threads. dnnl::error is translated to dither::Error (kInternal; kResourceExhausted).
class OneDnn {
 public:
  using Args = std::unordered_map<int, dnnl::memory>;

  OneDnn(int threads, ops::Backend& backend);

  const dnnl::engine& engine() const { return engine_; }
  int threads() const { return threads_; }

  /// A oneDNN call sees omp_get_max_threads() of the calling thread: makes it `threads`.
  void use_threads() const;
  /// Makes it one: for primitives of execute_each().
  static void use_one_thread();

  /// Runs a primitive whose scratchpad is user-provided; grows the shared scratchpad if needed.
  void execute(const dnnl::primitive& primitive, const dnnl::memory::desc& scratchpad, Args& args);
  /// A call of a primitive that was made for one thread.
  struct Call {
    dnnl::primitive primitive;
    dnnl::memory::desc scratchpad;
    Args args;
  };
  /// Runs the calls side by side, each on one thread.
  void execute_each(std::vector<Call>& calls);
  /// Copies between layouts (and dtypes).
  void reorder(dnnl::memory from, dnnl::memory to);
  /// Memory of a layout, in the backend's accounting, which lives as long as `owner` does.
  dnnl::memory allocate(const dnnl::memory::desc& desc, Tensor& owner);

  /// The processor multiplies bfloat16 natively, as far as oneDNN may use it (ONEDNN_MAX_CPU_ISA).
  static bool has_native_bf16();
  /// Likewise: the processor has AVX2.
  static bool has_avx2();

 private:
  int threads_;
  ops::Backend& backend_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  Tensor scratchpad_;
};

/// kF32 or kBF16.
dnnl::memory::data_type data_type(DType dtype);

/// Primitive attributes with a user scratchpad and these post-ops.
dnnl::primitive_attr attributes(const dnnl::post_ops& post_ops);

/// Appends an activation; kNone appends nothing.
void append_activation(ops::Activation activation, dnnl::post_ops& post_ops);

/// Calls f(), translating dnnl::error; `what` begins the message.
template <typename F>
auto translating(const char* what, const F& f) -> decltype(f());

[[noreturn]] void rethrow(const char* what, const dnnl::error& error);

template <typename F>
auto translating(const char* what, const F& f) -> decltype(f()) {
  try {
    return f();
  } catch (const dnnl::error& error) {
    rethrow(what, error);
  }
}

}  // namespace dither::cpu
