#include "backends/cpu/onednn.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <atomic>

#include "backends/cpu/parallel.h"
#include "base/error.h"

namespace dither::cpu {

OneDnn::OneDnn(int threads, ops::Backend& backend)
    : threads_(threads), backend_(backend), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

void OneDnn::use_threads() const {
  if (omp_get_max_threads() != threads_) omp_set_num_threads(threads_);
}

void OneDnn::use_one_thread() {
  if (omp_get_max_threads() != 1) omp_set_num_threads(1);
}

void OneDnn::execute(const dnnl::primitive& primitive, const dnnl::memory::desc& scratchpad,
                     Args& args) {
  use_threads();
  const std::size_t bytes = scratchpad.get_size();
  if (bytes > 0) {
    if (!scratchpad_.defined() || scratchpad_.bytes() < bytes) {
      scratchpad_ = {};
      scratchpad_ = Tensor::empty({static_cast<std::int64_t>(bytes)}, DType::kU8, backend_);
    }
    args[DNNL_ARG_SCRATCHPAD].set_data_handle(scratchpad_.raw());
  }
  primitive.execute(stream_, args);
}

void OneDnn::execute_each(std::vector<Call>& calls) {
  std::size_t bytes = 0;
  for (const Call& call : calls) bytes = std::max(bytes, call.scratchpad.get_size());
  const auto count = static_cast<std::int64_t>(calls.size());
  Tensor scratchpads;
  if (bytes > 0) {
    scratchpads = Tensor::empty({count, static_cast<std::int64_t>(bytes)}, DType::kU8, backend_);
  }
  std::atomic<dnnl_status_t> status = dnnl_success;
  parallel_for(threads_, count, [&](std::int64_t i) {
    use_one_thread();
    auto& [primitive, scratchpad, args] = calls[static_cast<std::size_t>(i)];
    try {
      if (bytes > 0) {
        args[DNNL_ARG_SCRATCHPAD] = {scratchpad, engine_,
                                     scratchpads.raw() + static_cast<std::size_t>(i) * bytes};
      }
      primitive.execute(dnnl::stream(engine_), args);
    } catch (const dnnl::error& error) {
      status = error.status;
    }
  });
  if (status != dnnl_success) throw dnnl::error(status, "a part of a primitive failed");
}

void OneDnn::reorder(dnnl::memory from, dnnl::memory to) {
  use_threads();
  dnnl::reorder(from, to).execute(stream_, from, to);
}

dnnl::memory OneDnn::allocate(const dnnl::memory::desc& desc, Tensor& owner) {
  owner = Tensor::empty({static_cast<std::int64_t>(desc.get_size())}, DType::kU8, backend_);
  return {desc, engine_, owner.raw()};
}

bool OneDnn::has_native_bf16() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_bf16:
    case dnnl::cpu_isa::avx512_core_amx:
      return true;
    default:
      return false;
  }
}

bool OneDnn::has_avx2() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
    case dnnl::cpu_isa::avx:
      return false;
    default:
      return true;
  }
}

dnnl::memory::data_type data_type(DType dtype) {
  return dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

dnnl::primitive_attr attributes(const dnnl::post_ops& post_ops) {
  dnnl::primitive_attr result;
  result.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  result.set_post_ops(post_ops);
  return result;
}

void append_activation(ops::Activation activation, dnnl::post_ops& post_ops) {
  using dnnl::algorithm;
  switch (activation) {
    case ops::Activation::kNone:
      return;
    case ops::Activation::kSilu:
      return post_ops.append_eltwise(1, algorithm::eltwise_swish, 1, 0);
    case ops::Activation::kQuickGelu:
      return post_ops.append_eltwise(1, algorithm::eltwise_swish, 1.702F, 0);
    case ops::Activation::kGeluTanh:
      return post_ops.append_eltwise(1, algorithm::eltwise_gelu_tanh, 0, 0);
  }
}

void rethrow(const char* what, const dnnl::error& error) {
  const bool memory = error.status == dnnl_out_of_memory;
  throw Error(memory ? ErrorCode::kResourceExhausted : ErrorCode::kInternal,
              fmt::format("cpu: {}: oneDNN: {}", what, error.message));
}

}  // namespace dither::cpu
