#include "pipelines/pipeline.h"

#include <array>
#include <utility>

namespace dither {
namespace {

constexpr std::array<std::pair<NoiseSource, std::string_view>, 3> kNoiseSources = {{
    {NoiseSource::kTorchCpu, "torch-cpu"},
    {NoiseSource::kTorchCpuLegacy, "torch-cpu-legacy"},
    {NoiseSource::kTorchCuda, "torch-cuda"},
}};
constexpr std::array<std::pair<LoadFormat, std::string_view>, 2> kLoadFormats = {{
    {LoadFormat::kAuto, "auto"},
    {LoadFormat::kDummy, "dummy"},
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

std::string_view load_format_name(LoadFormat format) {
  return kLoadFormats[static_cast<std::size_t>(format)].second;
}

std::optional<LoadFormat> parse_load_format(std::string_view name) {
  return find_name(kLoadFormats, name);
}

}  // namespace dither
