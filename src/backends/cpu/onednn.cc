#include "backends/cpu/onednn.h"

#include <fmt/format.h>
#include <omp.h>

#include "base/error.h"

namespace dither::cpu {

OneDnn::OneDnn(int threads, ops::Backend& backend)
    : threads_(threads), backend_(backend), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

void OneDnn::use_threads() const {
  if (omp_get_max_threads() != threads_) omp_set_num_threads(threads_);
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
