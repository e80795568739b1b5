#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/json_config.h"
#include "io/model_folder.h"

namespace {

using dither::JsonConfig;

void ignoring_errors(const std::function<void()>& action) {
  try {
    action();
  } catch (const dither::Error&) {
  }
}

/// Asks for every key as every type.
void read_all(const JsonConfig& config) {
  for (const std::string& key : config.keys()) {
    ignoring_errors([&] { config.get<bool>(key); });
    ignoring_errors([&] { config.get<int>(key); });
    ignoring_errors([&] { config.get<double>(key); });
    ignoring_errors([&] { config.get<std::vector<float>>(key); });
    ignoring_errors([&] { config.expect<std::string>(key, "supported"); });
    ignoring_errors([&] { config.get<std::vector<std::vector<int>>>(key); });
    ignoring_errors([&] { read_all(config.get<JsonConfig>(key)); });
    ignoring_errors([&] {
      for (const JsonConfig& element : config.get<std::vector<JsonConfig>>(key)) read_all(element);
    });
  }
  config.unread_keys();
}

}  // namespace

/// Any text: values of the type that was asked for, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ignoring_errors([&] { read_all(JsonConfig::parse(text, "input")); });
  ignoring_errors([&] { dither::parse_model_index(text, "input"); });
  ignoring_errors([&] {
    const auto config = JsonConfig::parse(text, "input");
    config.ignore({"ignored"});
    dither::parse_generation_defaults(config);
  });
  return 0;
}
