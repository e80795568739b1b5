#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "io/quantization_config.h"

namespace {

using dither::quant::Config;

template <typename Read>
std::optional<Config> read(const Read& action) {
  try {
    return action();
  } catch (const dither::Error&) {
    return std::nullopt;
  }
}

}  // namespace

/// A component's config.json, a line with a NUL, a weight file's metadata: a config that answers
/// for any layer, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dither::log::set_level(dither::log::level::off);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t split = std::min(text.find('\0'), size);
  const std::string_view json = text.substr(0, split);
  const std::string metadata(text.substr(std::min(split + 1, size)));

  const auto config = read([&]() -> std::optional<Config> {
    return dither::find_quantization_config(dither::JsonConfig::parse(json, "config.json"));
  });
  const dither::FileMetadata files[] = {{"a", {{"quantization_config", metadata}}},
                                        {"b", {{"_quantization_metadata", metadata}}}};
  const auto declared = read([&] { return dither::find_quantization_config(files); });
  const auto merged = read([&] { return dither::merge_quantization_configs(config, declared); });
  if (merged) dither::quant::format_of(*merged, "blocks.0.to_q");
  return 0;
}
