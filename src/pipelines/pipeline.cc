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

}  // namespace

std::string model_name(const std::filesystem::path& folder) {
  const auto absolute = std::filesystem::absolute(folder).lexically_normal();
  return (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
}

std::string_view noise_source_name(NoiseSource source) {
  return kNoiseSources[static_cast<std::size_t>(source)].second;
}

std::optional<NoiseSource> parse_noise_source(std::string_view name) {
  for (const auto& [source, known] : kNoiseSources) {
    if (known == name) return source;
  }
  return std::nullopt;
}

}  // namespace dither
