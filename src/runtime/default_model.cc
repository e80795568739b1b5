#include "runtime/default_model.h"

#include <fmt/format.h>

#include <cstdlib>
#include <system_error>

#include "base/error.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVariable = "DITHER_MODEL";

}  // namespace

std::vector<fs::path> default_model_candidates() {
  if (const char* named = std::getenv(kVariable); named != nullptr && *named != '\0') {
    return {named};
  }
  std::vector<fs::path> candidates;
  std::error_code failed;
  const fs::path executable = fs::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    const fs::path prefix = executable.parent_path().parent_path();
    candidates.push_back(prefix / "share" / "dither" / "models" / kDefaultModelName);
  }
  return candidates;
}

fs::path find_default_model() {
  std::string looked;
  for (const fs::path& candidate : default_model_candidates()) {
    std::error_code failed;
    if (fs::exists(candidate / "model_index.json", failed)) return candidate;
    looked += fmt::format("{}{}", looked.empty() ? "" : ", ", candidate.string());
  }
  throw Error(ErrorCode::kNotFound,
              fmt::format("no model: looked for a model_index.json in {}; name a model with "
                          "--model-path or {}",
                          looked, kVariable));
}

}  // namespace dither
