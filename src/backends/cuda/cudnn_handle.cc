#include "backends/cuda/cudnn_handle.h"

#include <cudnn_frontend.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <exception>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dither::cuda {
namespace {

namespace fe = cudnn_frontend;

/// cuDNN's messages list every engine's reasons on lines of their own; ours are one line, which
/// keeps the first reasons.
std::string one_line(std::string message) {
  constexpr std::size_t kMaxLength = 600;
  if (message.size() > kMaxLength) message = message.substr(0, kMaxLength) + "...";
  std::ranges::replace(message, '\n', ' ');
  while (!message.empty() && message.back() == ' ') message.pop_back();
  return message;
}

std::string last_message() {
  std::array<char, 512> buffer{};
  cudnnGetLastErrorString(buffer.data(), buffer.size());
  return one_line(buffer.data());
}

/// Failures that say nothing about the graph: another graph would meet them too.
bool is_device_failure(fe::error_code_t code) {
  return code == fe::error_code_t::CUDA_API_FAILED ||
         code == fe::error_code_t::INVALID_CUDA_DEVICE || code == fe::error_code_t::HANDLE_ERROR;
}

std::vector<fe::NumericalNote_t> unwanted_notes(CudnnEngines engines) {
  using Note = fe::NumericalNote_t;
  switch (engines) {
    case CudnnEngines::kAny:
      return {};
    case CudnnEngines::kDeterministic:
      return {Note::NONDETERMINISTIC, Note::REDUCED_PRECISION_REDUCTION};
    case CudnnEngines::kExactF32:
      return {Note::NONDETERMINISTIC, Note::REDUCED_PRECISION_REDUCTION, Note::TENSOR_CORE,
              Note::DOWN_CONVERT_INPUTS};
  }
  throw Error(ErrorCode::kInternal, "cudnn: unknown set of engines");
}

/// Every step from the description to loaded kernels; the first that fails says why.
fe::error_t lower(fe::graph::Graph& graph, cudnnHandle_t handle, CudnnEngines engines,
                  std::int64_t& workspace_bytes) {
  if (auto status = graph.validate(); status.is_bad()) return status;
  if (auto status = graph.build_operation_graph(handle); status.is_bad()) return status;
  if (auto status = graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK});
      status.is_bad()) {
    return status;
  }
  graph.deselect_numeric_notes(unwanted_notes(engines));
  if (auto status = graph.check_support(); status.is_bad()) return status;
  if (auto status = graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE); status.is_bad()) {
    return status;
  }
  return graph.get_workspace_size(workspace_bytes);
}

}  // namespace

void check(cudnnStatus_t status, std::string_view doing) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  const bool memory = status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                      status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
  throw Error(
      memory ? ErrorCode::kResourceExhausted : ErrorCode::kDevice,
      "cudnn: " + std::string(doing) + ": " + cudnnGetErrorString(status) + ": " + last_message());
}

CudnnHandle::CudnnHandle(cudaStream_t stream) {
  cudnnHandle_t handle = nullptr;
  check(cudnnCreate(&handle), "create a handle");
  handle_.reset(handle);
  check(cudnnSetStream(handle, stream), "set the stream");
}

CudnnPlan::CudnnPlan(std::shared_ptr<fe::graph::Graph> graph, std::size_t workspace_bytes)
    : graph_(std::move(graph)), workspace_bytes_(workspace_bytes) {}

std::optional<CudnnPlan> CudnnPlan::build(const CudnnHandle& handle,
                                          std::shared_ptr<fe::graph::Graph> graph,
                                          CudnnEngines engines, std::string& refusals) {
  std::int64_t workspace_bytes = 0;
  fe::error_t status;
  try {
    status = lower(*graph, handle.get(), engines, workspace_bytes);
  } catch (const fe::cudnnException& error) {  // some of the frontend's builders throw
    status = {fe::error_code_t::GRAPH_NOT_SUPPORTED, error.what()};
  }
  if (status.is_good()) {
    return CudnnPlan(std::move(graph), static_cast<std::size_t>(workspace_bytes));
  }
  const std::string reason = one_line(status.get_message());
  if (is_device_failure(status.get_code())) {
    throw Error(ErrorCode::kDevice, "cudnn: build a plan: " + reason);
  }
  if (!refusals.empty()) refusals += "; ";
  refusals += reason;
  return std::nullopt;
}

void CudnnPlan::run(const CudnnHandle& handle, std::span<const CudnnOperand> operands,
                    const CudnnScratch& scratch) const {
  std::unordered_map<std::int64_t, void*> pack;
  for (const CudnnOperand& operand : operands) pack.emplace(operand.uid, operand.data);
  void* const workspace = workspace_bytes_ > 0 ? scratch(workspace_bytes_) : nullptr;
  fe::error_t status;
  try {
    status = graph_->execute(handle.get(), pack, workspace);
  } catch (const std::exception& error) {
    status = {fe::error_code_t::GRAPH_EXECUTION_FAILED, error.what()};
  }
  if (status.is_bad()) {
    throw Error(ErrorCode::kDevice,
                "cudnn: run a plan: " + one_line(status.get_message()) + " " + last_message());
  }
}

}  // namespace dither::cuda
