#include "io/safetensors_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "io/safetensors_header.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

/// The library's order: wide types first, so that each tensor starts aligned whatever stands
/// before it.
constexpr std::array kFileOrder = {
    DType::kU64, DType::kI64,    DType::kF64,    DType::kC64,    DType::kF32,
    DType::kU32, DType::kI32,    DType::kBF16,   DType::kF16,    DType::kU16,
    DType::kI16, DType::kF8E8M0, DType::kF8E4M3, DType::kF8E5M2, DType::kI8,
    DType::kU8,  DType::kF6E3M2, DType::kF6E2M3, DType::kF4E2M1, DType::kBool,
};

auto file_rank(DType dtype) { return std::ranges::find(kFileOrder, dtype) - kFileOrder.begin(); }

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", path.string(), what));
}

std::uint64_t byte_count(const std::filesystem::path& path, const TensorSpec& spec) {
  const auto bits = checked_mul<std::int64_t>(element_count(spec.shape), dtype_bits(spec.dtype));
  if (!bits || *bits % 8 != 0) {
    refuse(path, fmt::format("tensor {}: {} {} is not a whole number of bytes", quote(spec.name),
                             dtype_name(spec.dtype), to_string(spec.shape)));
  }
  return static_cast<std::uint64_t>(*bits) / 8;
}

/// JSON string literal. Throws kInvalidArgument unless `text` is UTF-8.
std::string json_string(const std::filesystem::path& path, std::string_view text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    refuse(path, fmt::format("{} is not valid UTF-8", quote(text)));
  }
}

std::string header_json(const std::filesystem::path& path, const std::vector<TensorSpec>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      json += fmt::format("{}:{},", json_string(path, key), json_string(path, value));
    }
    json.back() = '}';
    json += ",";
  }
  std::uint64_t offset = 0;
  for (const TensorSpec& spec : order) {
    const auto end = checked_add(offset, byte_count(path, spec));
    if (!end) refuse(path, "the tensors are larger than any file");
    json += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}},)",
                        json_string(path, spec.name), dtype_name(spec.dtype),
                        fmt::join(spec.shape.begin(), spec.shape.end(), ","), offset, *end);
    offset = *end;
  }
  if (json.back() == ',') json.pop_back();
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxSafetensorsHeaderBytes) {
    refuse(path, fmt::format("the header would take {} bytes, the format allows {}", json.size(),
                             kMaxSafetensorsHeaderBytes));
  }
  return json;
}

std::vector<TensorSpec> in_file_order(const std::filesystem::path& path,
                                      std::vector<TensorSpec> tensors) {
  std::ranges::sort(tensors, {}, [](const TensorSpec& spec) {
    return std::pair(file_rank(spec.dtype), std::string_view(spec.name));
  });
  std::vector<std::string_view> names;
  for (const TensorSpec& spec : tensors) names.push_back(spec.name);
  std::ranges::sort(names);
  if (const auto twin = std::ranges::adjacent_find(names); twin != names.end()) {
    refuse(path, fmt::format("tensor {} is declared twice", quote(*twin)));
  }
  for (const std::string_view name : names) {
    if (name == "__metadata__" || name.find('\0') != std::string_view::npos) {
      refuse(path, fmt::format("{} cannot name a tensor", quote(name)));
    }
  }
  return tensors;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : order_(in_file_order(path, std::move(tensors))), file_(path) {
  const std::string json = header_json(path, order_, metadata);
  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<std::byte>(json.size() >> (8 * i));
  }
  file_.write(length);
  file_.write(json);
}

const TensorSpec& SafetensorsWriter::due(std::string_view name) const {
  if (next_ == order_.size() || order_[next_].name != name) {
    refuse(file_.path(),
           fmt::format("tensor {} written where {} is due", quote(name),
                       next_ == order_.size() ? "the end" : quote(order_[next_].name)));
  }
  return order_[next_];
}

void SafetensorsWriter::write(std::string_view name, const Tensor& tensor) {
  const TensorSpec& spec = due(name);
  if (tensor.dtype() != spec.dtype || !(tensor.shape() == spec.shape)) {
    refuse(file_.path(),
           fmt::format("tensor {} is {}, declared as {} {}", quote(name), to_string(tensor),
                       dtype_name(spec.dtype), to_string(spec.shape)));
  }
  if (!tensor.defined() || !tensor.contiguous() || tensor.device() != nullptr) {
    refuse(file_.path(), fmt::format("tensor {} is not contiguous host memory", quote(name)));
  }
  write_part(name, std::span(tensor.raw(), tensor.bytes()));
}

void SafetensorsWriter::write_part(std::string_view name, std::span<const std::byte> bytes) {
  const std::uint64_t size = byte_count(file_.path(), due(name));
  if (bytes.size() > size - written_) {
    refuse(file_.path(), fmt::format("tensor {} has {} bytes, {} were written", quote(name), size,
                                     written_ + bytes.size()));
  }
  file_.write(bytes);
  written_ += bytes.size();
  if (written_ < size) return;
  ++next_;
  written_ = 0;
}

void SafetensorsWriter::finish() {
  if (next_ != order_.size()) {
    refuse(file_.path(),
           fmt::format("tensor {} was declared but not written", quote(order_[next_].name)));
  }
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, tensor.dtype(), tensor.shape()});
  }
  SafetensorsWriter writer(path, std::move(specs), metadata);
  for (const TensorSpec& spec : writer.order()) writer.write(spec.name, tensors.at(spec.name));
  writer.finish();
}

}  // namespace dither
