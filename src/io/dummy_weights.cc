#include "io/dummy_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "base/error.h"
#include "io/untrusted_name.h"
#include "quant/config.h"
#include "quant/fp8.h"
#include "quant/modelopt_filter.h"
#include "quant/profile.h"
#include "tensor/bfloat16.h"
#include "tensor/float8.h"

namespace dither {
namespace {

using quant::Format;
using quant::LayerPlan;

constexpr std::string_view kWeight = ".weight";
constexpr std::int64_t kBlockElements = std::int64_t{1} << 25;
constexpr std::int64_t kAlignElements = 64;
constexpr double kStddev = 0.02;
constexpr double kCodeStddev = 90;
constexpr float kWeightScale = static_cast<float>(kStddev / kCodeStddev);
constexpr float kInputScale = 4.0F / kE4M3Max;

constexpr std::array<std::pair<DummyQuantization, std::string_view>, 3> kQuantizations = {{
    {DummyQuantization::kNone, "none"},
    {DummyQuantization::kFp8Profile, "fp8-profile"},
    {DummyQuantization::kFp8Full, "fp8-full"},
}};

/// SplitMix64 (Steele, Lea and Flood 2014), which `state` counts through.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

/// The standard normal distribution at the middles of 2^16 equal shares, so that 16 random bits
/// choose a normally distributed number.
std::vector<double> normal_quantiles() {
  constexpr std::size_t kShares = std::size_t{1} << 16;
  std::vector<double> quantiles(kShares);
  double x = 0;
  for (std::size_t i = kShares / 2; i < kShares; ++i) {
    const double share = (static_cast<double>(i) + 0.5) / kShares;
    // Newton's method from the left of a concave function: it converges without leaving that side.
    for (int step = 0; step < 8; ++step) {
      const double missing = share - 0.5 * std::erfc(-x / std::numbers::sqrt2);
      x += missing * std::sqrt(2 * std::numbers::pi) * std::exp(0.5 * x * x);
    }
    quantiles[i] = x;
    quantiles[kShares - 1 - i] = -x;
  }
  return quantiles;
}

/// A block of normally distributed numbers as `convert` makes them of standard ones.
template <typename T, typename Convert>
std::unique_ptr<const PagePattern> make_block(std::uint64_t seed, const Convert& convert) {
  std::vector<T> table;
  for (const double quantile : normal_quantiles()) table.push_back(convert(quantile));
  const auto fill = [&](std::span<std::byte> bytes) {
    auto* const out = reinterpret_cast<T*>(bytes.data());
    for (std::int64_t i = 0; i < kBlockElements; i += 4) {
      const std::uint64_t bits = next_random(seed);
      for (int part = 0; part < 4; ++part) out[i + part] = table[bits >> (16 * part) & 0xFFFFU];
    }
  };
  return std::make_unique<PagePattern>(kBlockElements * sizeof(T), fill);
}

/// The element of a block at which a tensor begins.
std::int64_t offset(std::uint64_t seed, std::string_view name) {
  std::uint64_t state = seed;
  for (const char c : name) state = next_random(state) ^ static_cast<unsigned char>(c);
  constexpr std::uint64_t kStarts = kBlockElements / kAlignElements;
  return static_cast<std::int64_t>(next_random(state) % kStarts) * kAlignElements;
}

std::shared_ptr<Storage> repeat(const PagePattern& block, DType dtype, std::int64_t elements) {
  const std::size_t bytes =
      static_cast<std::size_t>((elements + kBlockElements) * dtype_bits(dtype) / 8);
  auto range = block.repeat(bytes);
  // Storage knows no constness; the pages are read-only.
  return std::make_shared<Storage>(const_cast<std::byte*>(range.get()), bytes, nullptr, range);
}

bool is_norm_scale(std::string_view name, const Shape& shape) {
  return shape.size() == 1 && !name.ends_with("bias");
}

/// What a checkpoint of this quantization would declare.
quant::Config declared_config(const DummyWeights::Options& options) {
  quant::Config config;
  if (options.quantization == DummyQuantization::kNone) return config;
  const auto filter = quant::modelopt_filter(options.class_name);
  if (filter.empty()) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: no FP8 layout is known for {}", options.description,
                            quote(options.class_name)));
  }
  config.format = Format::kFp8;
  config.ignore.assign(filter.begin(), filter.end());
  return config;
}

}  // namespace

std::string_view dummy_quantization_name(DummyQuantization quantization) {
  return kQuantizations[static_cast<std::size_t>(quantization)].second;
}

std::optional<DummyQuantization> parse_dummy_quantization(std::string_view name) {
  for (const auto& [quantization, known] : kQuantizations) {
    if (known == name) return quantization;
  }
  return std::nullopt;
}

const PagePattern& DummyNumbers::values() {
  if (!values_) {
    values_ =
        make_block<bf16>(seed_, [](double x) { return to_bf16(static_cast<float>(kStddev * x)); });
  }
  return *values_;
}

const PagePattern& DummyNumbers::codes() {
  if (!codes_) {
    codes_ = make_block<std::uint8_t>(
        ~seed_, [](double x) { return to_e4m3_saturated(static_cast<float>(kCodeStddev * x)); });
  }
  return *codes_;
}

DummyWeights::DummyWeights(const std::vector<DummyTensor>& tensors, DummyNumbers& numbers,
                           Options options)
    : options_(std::move(options)),
      seed_(numbers.seed()),
      declared_by_(fmt::format("dummy weights, seed {}, {}", seed_,
                               dummy_quantization_name(options_.quantization))) {
  for (const DummyTensor& tensor : tensors) {
    tensors_.push_back({tensor.name, DType::kBF16, tensor.shape, options_.description});
  }
  std::ranges::sort(tensors_, {}, &TensorInfo::name);
  const auto twice = std::ranges::adjacent_find(tensors_, {}, &TensorInfo::name);
  if (twice != tensors_.end()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: two tensors {}", options_.description, quote(twice->name)));
  }
  plan_layers(tensors);

  std::int64_t most_values = 0;
  std::int64_t most_codes = 0;
  for (TensorInfo& info : tensors_) {
    const bool codes = quantized(info.name) != nullptr;
    if (codes) info.dtype = DType::kF32;  // what read() gives
    std::int64_t& most = codes ? most_codes : most_values;
    most = std::max(most, element_count(info.shape));
  }
  if (most_values > 0) values_ = repeat(numbers.values(), DType::kBF16, most_values);
  if (most_codes > 0) codes_ = repeat(numbers.codes(), DType::kF8E4M3, most_codes);
}

void DummyWeights::plan_layers(const std::vector<DummyTensor>& tensors) {
  const quant::Config config = declared_config(options_);
  const quant::Profile* const profile = options_.quantization == DummyQuantization::kFp8Profile
                                            ? quant::profile_of_class(options_.class_name)
                                            : nullptr;
  for (const DummyTensor& tensor : tensors) {
    if (!tensor.name.ends_with(kWeight) || tensor.shape.size() != 2) continue;
    LayerPlan plan{.name = tensor.name.substr(0, tensor.name.size() - kWeight.size()),
                   .shape = tensor.shape};
    if (tensor.linear && config.format == Format::kFp8) {
      if (const std::string* pattern = quant::find_pattern(config.ignore, plan.name)) {
        plan.fallback = "exclusion";
        plan.fallback_detail = fmt::format("pattern '{}'", *pattern);
      } else if (profile != nullptr && quant::keeps_16_bit(*profile, plan.name)) {
        plan.fallback = fmt::format("profile {}", profile->name);
      } else {
        plan.stored = DType::kF8E4M3;
        plan.format = Format::kFp8;
        plan.weight_scale = kWeightScale;
        plan.input_scale = kInputScale;
        plan.scale_source = "dummy";
      }
    }
    layers_.push_back(std::move(plan));
  }
  std::ranges::sort(layers_, {}, [](const LayerPlan& plan) { return plan.name + ".weight"; });
}

const TensorInfo* DummyWeights::find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

const LayerPlan* DummyWeights::find_layer(std::string_view name) const {
  // "a.weight" before "a.b.weight": the plans are in the order of the tensors, not of the layers.
  const auto with_suffix = [](const LayerPlan& plan) { return plan.name + ".weight"; };
  const std::string key = fmt::format("{}{}", name, kWeight);
  const auto it = std::ranges::lower_bound(layers_, key, {}, with_suffix);
  return it != layers_.end() && it->name == name ? &*it : nullptr;
}

/// The plan of the layer whose weight this is, where that is stored as codes.
const LayerPlan* DummyWeights::quantized(std::string_view tensor) const {
  if (!tensor.ends_with(kWeight)) return nullptr;
  const LayerPlan* plan = find_layer(tensor.substr(0, tensor.size() - kWeight.size()));
  return plan != nullptr && plan->format == Format::kFp8 ? plan : nullptr;
}

Tensor DummyWeights::read(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: no tensor {}", options_.description, quote(name)));
  }
  if (const LayerPlan* plan = quantized(name)) {
    const Tensor codes = view(codes_, DType::kF8E4M3, name, info->shape);
    Tensor values = Tensor::host(info->shape, DType::kF32);
    quant::dequantize_e4m3({codes.data<std::uint8_t>(), codes.bytes()}, *plan->weight_scale,
                           {values.data<float>(), static_cast<std::size_t>(values.elements())});
    return values;
  }
  Tensor values = view(values_, DType::kBF16, name, info->shape);
  if (!is_norm_scale(name, info->shape)) return values;
  Tensor scales = Tensor::host(info->shape, DType::kBF16);
  std::transform(values.data<bf16>(), values.data<bf16>() + values.elements(), scales.data<bf16>(),
                 [](bf16 value) { return to_bf16(1 + to_float(value)); });
  return scales;
}

quant::LinearWeight DummyWeights::linear(std::string_view name) const {
  const LayerPlan* plan = find_layer(name);
  if (plan == nullptr) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: no matrix '{}.weight'", options_.description, name));
  }
  const std::string weight = plan->name + ".weight";
  if (plan->format != Format::kFp8) {
    return {.weight = read(weight), .name = plan->name, .left_16_bit = !plan->fallback.empty()};
  }
  return {.weight = view(codes_, DType::kF8E4M3, weight, plan->shape),
          .weight_scale = plan->weight_scale,
          .input_scale = plan->input_scale,
          .name = plan->name,
          .format = plan->format};
}

Tensor DummyWeights::view(const std::shared_ptr<Storage>& block, DType dtype, std::string_view name,
                          const Shape& shape) const {
  return Tensor::view(block, offset(seed_, name) * dtype_bits(dtype) / 8, shape, dtype);
}

}  // namespace dither
