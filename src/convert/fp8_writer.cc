#include "convert/fp8_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "convert/python_json.h"
#include "io/untrusted_name.h"
#include "quant/fp8.h"
#include "tensor/host_floats.h"

namespace dither::convert {
namespace {

namespace fs = std::filesystem;

/// Bytes of a tensor in hand at a time.
constexpr std::int64_t kPieceBytes = std::int64_t{16} << 20;

/// Bytes [begin, end) of a contiguous tensor.
Tensor byte_view(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
  const std::int64_t start = tensor.raw() - tensor.storage()->data();
  return Tensor::view(tensor.storage(), start + begin, {end - begin}, DType::kU8);
}

/// The pieces of `tensor`, each released when `consume(first element, elements)` has seen it.
template <typename Consume>
void for_pieces(const TensorSource& source, const Tensor& tensor, std::int64_t element_bytes,
                Consume consume) {
  const std::int64_t count = static_cast<std::int64_t>(tensor.bytes()) / element_bytes;
  const std::int64_t piece = kPieceBytes / element_bytes;
  std::int64_t begin = 0;
  do {  // once for an empty tensor too
    const std::int64_t end = std::min(begin + piece, count);
    consume(begin, end - begin);
    source.release(byte_view(tensor, begin * element_bytes, end * element_bytes));
    begin = end;
  } while (begin < count);
}

class ShardWriter {
 public:
  ShardWriter(Fp8Plan& plan, const Fp8Inputs& inputs,
              const std::function<void(std::uint64_t, std::uint64_t)>& progress)
      : report_(plan.report), inputs_(inputs), progress_(progress) {}

  void write(const PlannedShard& shard, const fs::path& folder) {
    std::map<std::string_view, const PlannedTensor*> planned;
    std::vector<TensorSpec> specs;
    for (const PlannedTensor& tensor : shard.tensors) {
      planned[tensor.spec.name] = &tensor;
      specs.push_back(tensor.spec);
    }
    SafetensorsWriter writer(folder / shard.file, std::move(specs), shard.metadata);
    for (const TensorSpec& spec : writer.order()) write_tensor(writer, *planned.at(spec.name));
    writer.finish();
  }

 private:
  void write_tensor(SafetensorsWriter& writer, const PlannedTensor& tensor) {
    switch (tensor.origin) {
      case Origin::kExport:
        return copy(writer, tensor, *inputs_.exported.weights);
      case Origin::kBase:
        return copy(writer, tensor, *inputs_.base->weights);
      case Origin::kQuantize:
        return quantize(writer, tensor);
      case Origin::kScale:
        return append(writer, tensor, std::as_bytes(std::span(&tensor.scale, 1)));
    }
  }

  void copy(SafetensorsWriter& writer, const PlannedTensor& tensor, const TensorSource& source) {
    const Tensor stored = source.read(tensor.spec.name);
    for_pieces(source, stored, 1, [&](std::int64_t begin, std::int64_t count) {
      append(writer, tensor, {stored.raw() + begin, static_cast<std::size_t>(count)});
    });
  }

  void quantize(SafetensorsWriter& writer, const PlannedTensor& tensor) try {
    const TensorSource& source = *inputs_.exported.weights;
    const Tensor stored = source.read(tensor.spec.name);
    std::uint64_t clamped = 0;
    for_pieces(source, stored, dtype_bits(stored.dtype()) / 8,
               [&](std::int64_t begin, std::int64_t count) {
                 values_.resize(static_cast<std::size_t>(count));
                 codes_.resize(values_.size());
                 read_floats(stored, begin, values_);
                 clamped += quant::quantize_weight_e4m3(values_, tensor.scale, codes_).clamped;
                 append(writer, tensor, std::as_bytes(std::span(codes_)));
               });
    if (clamped > 0) report_.clamped_layers.push_back(tensor.spec.name);
    report_.clamped_values += clamped;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kDataLoss) throw;
    throw Error(error.code(), fmt::format("{}: {}: {}", inputs_.exported.weights->description(),
                                          quote(tensor.spec.name), error.what()));
  }

  void append(SafetensorsWriter& writer, const PlannedTensor& tensor,
              std::span<const std::byte> bytes) {
    writer.write_part(tensor.spec.name, bytes);
    written_ += bytes.size();
    if (progress_) progress_(written_, report_.total_size);
  }

  ModelOptFp8Report& report_;
  const Fp8Inputs& inputs_;
  const std::function<void(std::uint64_t, std::uint64_t)>& progress_;
  std::uint64_t written_ = 0;
  std::vector<float> values_;
  std::vector<std::uint8_t> codes_;
};

std::string index_json(const Fp8Plan& plan) {
  nlohmann::json map = nlohmann::json::object();
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& tensor : shard.tensors) map[tensor.spec.name] = shard.file;
  }
  return python_json_indented(
      {{"metadata", {{"total_size", plan.report.total_size}}}, {"weight_map", std::move(map)}});
}

/// Everything that a conversion leaves alone: licences, model cards, folders. Links are followed,
/// since the caches of model hubs consist of them.
void copy_other_files(const fs::path& from, const fs::path& to, bool top = true) {
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path& file = entry.path();
    if (top && (is_weight_file(file) || file.filename() == "config.json")) continue;
    const fs::path target = to / file.filename();
    if (entry.is_directory()) {
      fs::create_directory(target);
      copy_other_files(file, target, false);
    } else if (entry.is_regular_file()) {
      AtomicFile copy(target);
      copy.write(MappedFile::open(file)->bytes());
      copy.commit();
    }
  }
}

/// Opens the result as a reader would.
void verify(const Fp8Plan& plan, const Fp8Inputs& inputs, const fs::path& folder) {
  const auto wrong = [&](const TensorSpec& spec) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: tensor {} was not read back as written",
                                                  folder.string(), quote(spec.name)));
  };
  const auto written = open_checkpoint(folder / inputs.exported.index_name);
  std::size_t count = 0;
  for (const PlannedShard& shard : plan.shards) {
    for (const auto& [spec, origin, scale] : shard.tensors) {
      const TensorInfo* info = written->find(spec.name);
      if (info == nullptr || info->dtype != spec.dtype || info->shape != spec.shape) wrong(spec);
      ++count;
      if (origin != Origin::kScale) continue;
      const Tensor stored = written->read(spec.name);
      if (*stored.data<float>() != scale) wrong(spec);
    }
  }
  if (count != written->tensors().size()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: holds {} tensors, {} were written", folder.string(),
                            written->tensors().size(), count));
  }
}

}  // namespace

void write_modelopt_fp8(Fp8Plan& plan, const Fp8Inputs& inputs, const fs::path& folder,
                        const std::function<void(std::uint64_t, std::uint64_t)>& progress) try {
  copy_other_files(inputs.exported.path, folder);
  ShardWriter writer(plan, inputs, progress);
  for (const PlannedShard& shard : plan.shards) writer.write(shard, folder);
  write_file(folder / inputs.exported.index_name, index_json(plan));
  write_file(folder / "config.json", python_json_indented(plan.config));
  verify(plan, inputs, folder);
} catch (const fs::filesystem_error& error) {
  throw Error(ErrorCode::kIo, error.what());
}

}  // namespace dither::convert
