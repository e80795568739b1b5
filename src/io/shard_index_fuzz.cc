#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "io/shard_index.h"
#include "io/untrusted_name.h"

/// Any text: a map to plain file names, or an Error.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    for (const auto& [tensor, file] : dither::parse_shard_index(text, "input")) {
      if (!dither::is_plain_file_name(file)) std::abort();
    }
  } catch (const dither::Error&) {
  }
  return 0;
}
