#include "pipelines/pipeline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <system_error>
#include <utility>
#include <vector>

namespace dither {
namespace {

constexpr std::array<std::pair<NoiseSource, std::string_view>, 3> kNoiseSources = {{
    {NoiseSource::kTorchCpu, "torch-cpu"},
    {NoiseSource::kTorchCpuLegacy, "torch-cpu-legacy"},
    {NoiseSource::kTorchCuda, "torch-cuda"},
}};
constexpr std::array<std::pair<ReferenceLimit, std::string_view>, 2> kReferenceLimits = {{
    {ReferenceLimit::kDiffusers, "diffusers"},
    {ReferenceLimit::kBfl, "bfl"},
}};
constexpr std::array<std::pair<LoadFormat, std::string_view>, 2> kLoadFormats = {{
    {LoadFormat::kAuto, "auto"},
    {LoadFormat::kDummy, "dummy"},
}};
constexpr std::array<std::pair<VaePrecision, std::string_view>, 3> kVaePrecisions = {{
    {VaePrecision::kAuto, "auto"},
    {VaePrecision::kBF16, "bf16"},
    {VaePrecision::kF32, "f32"},
}};

/// The enumerator of a name in one of the tables above.
template <typename Table>
auto find_name(const Table& table, std::string_view name)
    -> std::optional<typename Table::value_type::first_type> {
  for (const auto& [value, known] : table) {
    if (known == name) return value;
  }
  return std::nullopt;
}

/// "first=12" -> 12 for the name "first"; nothing else.
std::optional<int> read_count(std::string_view part, std::string_view name) {
  if (!part.starts_with(name) || !part.substr(name.size()).starts_with('=')) return std::nullopt;
  part.remove_prefix(name.size() + 1);
  int count = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), count);
  if (error != std::errc() || end != part.data() + part.size() || count < 0) return std::nullopt;
  return count;
}

}  // namespace

std::string model_name(const std::filesystem::path& folder) {
  const auto absolute = std::filesystem::absolute(folder).lexically_normal();
  return (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
}

std::string_view noise_source_name(NoiseSource source) {
  return kNoiseSources[static_cast<std::size_t>(source)].second;
}

std::optional<NoiseSource> parse_noise_source(std::string_view name) {
  return find_name(kNoiseSources, name);
}

std::string_view reference_limit_name(ReferenceLimit limit) {
  return kReferenceLimits[static_cast<std::size_t>(limit)].second;
}

std::optional<ReferenceLimit> parse_reference_limit(std::string_view name) {
  return find_name(kReferenceLimits, name);
}

std::string attention_schedule_name(const AttentionSchedule& schedule) {
  if (!schedule.fp8) return "bf16";
  if (schedule.first == 0 && schedule.last == 0) return "fp8";
  return fmt::format("schedule:first={},last={}", schedule.first, schedule.last);
}

std::optional<AttentionSchedule> parse_attention_schedule(std::string_view text) {
  if (text == "bf16") return AttentionSchedule{};
  if (text == "fp8") return AttentionSchedule{.fp8 = true};
  constexpr std::string_view kPrefix = "schedule:";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  AttentionSchedule schedule{.fp8 = true};
  std::string_view rest = text.substr(kPrefix.size());
  while (true) {
    const std::string_view part = rest.substr(0, rest.find(','));
    if (const auto first = read_count(part, "first")) {
      schedule.first = *first;
    } else if (const auto last = read_count(part, "last")) {
      schedule.last = *last;
    } else {
      return std::nullopt;
    }
    if (part.size() == rest.size()) return schedule;
    rest.remove_prefix(part.size() + 1);
  }
}

std::string_view vae_precision_name(VaePrecision precision) {
  return kVaePrecisions[static_cast<std::size_t>(precision)].second;
}

std::optional<VaePrecision> parse_vae_precision(std::string_view name) {
  return find_name(kVaePrecisions, name);
}

RequestExtent extent_of(const GenerateRequest& request) {
  RequestExtent extent{.width = request.width,
                       .height = request.height,
                       .num_frames = request.num_frames,
                       .references = {},
                       .reference_limit = request.reference_limit};
  for (const auto& [path, image] : request.references) {
    extent.references.push_back({image.width, image.height});
  }
  return extent;
}

DType vae_dtype(VaePrecision precision, DType activations) {
  switch (precision) {
    case VaePrecision::kAuto:
      return activations;
    case VaePrecision::kBF16:
      return DType::kBF16;
    case VaePrecision::kF32:
      return DType::kF32;
  }
  return activations;
}

std::string weight_precision_name(const PipelineOptions& options) {
  std::vector<std::string> names;
  if (options.policy.keep_fp8) names.emplace_back("weight-only-fp8=keep");
  if (options.policy.nvfp4_as_fp8) names.emplace_back("nvfp4-as=fp8");
  if (options.fp8_text_encoder) names.emplace_back("text-encoder-precision=fp8");
  if (options.vae != VaePrecision::kAuto) {
    names.push_back(fmt::format("vae-precision={}", vae_precision_name(options.vae)));
  }
  if (options.vae_tiling) names.emplace_back("vae-tiling");
  return names.empty() ? "default" : fmt::format("{}", fmt::join(names, ","));
}

std::string_view load_format_name(LoadFormat format) {
  return kLoadFormats[static_cast<std::size_t>(format)].second;
}

std::optional<LoadFormat> parse_load_format(std::string_view name) {
  return find_name(kLoadFormats, name);
}

}  // namespace dither
