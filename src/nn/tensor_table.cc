#include "nn/tensor_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <unordered_set>

#include "base/error.h"

namespace dither::nn {
namespace {

/// Integers and booleans are no weights.
bool is_floating_point(DType dtype) {
  switch (dtype) {
    case DType::kF16:
    case DType::kBF16:
    case DType::kF32:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return true;
    default:
      return false;
  }
}

}  // namespace

void TensorTable::add_linear(const std::string& name, std::int64_t out, std::int64_t in,
                             bool bias) {
  linears_.push_back(name);
  add(name + ".weight", {out, in});
  if (bias) add(name + ".bias", {out});
}

void TensorTable::add_conv2d(const std::string& name, std::int64_t out, std::int64_t in,
                             std::int64_t kernel) {
  add(name + ".weight", {out, in, kernel, kernel});
  add(name + ".bias", {out});
}

void TensorTable::add_conv3d(const std::string& name, std::int64_t out, std::int64_t in,
                             std::array<std::int64_t, 3> kernel) {
  add(name + ".weight", {out, in, kernel[0], kernel[1], kernel[2]});
  add(name + ".bias", {out});
}

void TensorTable::add_norm(const std::string& name, std::int64_t channels) {
  add(name + ".weight", {channels});
  add(name + ".bias", {channels});
}

void TensorTable::check(const TensorSource& source) const {
  std::vector<std::string> problems;
  std::unordered_set<std::string_view> expected;
  for (const TensorSpec& spec : specs_) {
    expected.insert(spec.name);
    const TensorInfo* info = source.find(spec.name);
    if (info == nullptr) {
      problems.push_back(fmt::format("missing {} {}", spec.name, to_string(spec.shape)));
    } else if (info->shape != spec.shape) {
      problems.push_back(fmt::format("{} is {}, expected {}", spec.name, to_string(info->shape),
                                     to_string(spec.shape)));
    } else if (!is_floating_point(info->dtype)) {
      problems.push_back(
          fmt::format("{} is {}, expected F32, BF16 or F16", spec.name, dtype_name(info->dtype)));
    }
  }
  for (const TensorInfo& info : source.tensors()) {
    if (!expected.contains(info.name) && !ignored(info.name)) {
      problems.push_back(fmt::format("surplus {} {}", info.name, to_string(info.shape)));
    }
  }
  if (problems.empty()) return;
  throw Error(ErrorCode::kDataLoss,
              fmt::format("{}: {} of {} tensors do not fit the model: {}", source.description(),
                          problems.size(), specs_.size(), fmt::join(problems, "; ")));
}

bool TensorTable::ignored(std::string_view name) const {
  for (const std::string& pattern : ignored_) {
    const std::string_view text = pattern;
    if (text.ends_with('*') ? name.starts_with(text.substr(0, text.size() - 1)) : name == text) {
      return true;
    }
  }
  return false;
}

}  // namespace dither::nn
