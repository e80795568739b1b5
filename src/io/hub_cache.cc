#include "io/hub_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <system_error>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

/// A part of a repository's or revision's name.
bool is_name(std::string_view text) {
  constexpr std::size_t kMaxLength = 96;  // the hub's limit
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  };
  return !text.empty() && text.size() <= kMaxLength && text.front() != '.' && text.back() != '.' &&
         std::ranges::all_of(text, allowed);
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('/', at), text.size());
    parts.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

bool is_there(const fs::path& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

/// An environment variable that says something.
std::optional<fs::path> folder_from(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return fs::path(value);
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

std::string download_command(const HubId& id) {
  std::string command = fmt::format("hf download {}", id.repository);
  if (id.revision != "main") command += fmt::format(" --revision {}", id.revision);
  if (!id.subfolder.empty()) command += fmt::format(" --include '{}/*'", id.subfolder);
  return command;
}

}  // namespace

std::optional<HubId> parse_hub_id(std::string_view text) {
  std::vector<std::string> parts = split(text);
  if (parts.size() < 2) return std::nullopt;
  HubId id;
  std::string& name = parts[1];
  if (const auto at = name.find('@'); at != std::string::npos) {
    id.revision = name.substr(at + 1);
    name.resize(at);
    if (!is_name(id.revision)) return std::nullopt;
  }
  if (!is_name(parts[0]) || !is_name(name)) return std::nullopt;
  id.repository = fmt::format("{}/{}", parts[0], name);
  for (std::size_t i = 2; i < parts.size(); ++i) {
    if (!is_plain_file_name(parts[i])) return std::nullopt;
    id.subfolder += fmt::format("{}{}", id.subfolder.empty() ? "" : "/", parts[i]);
  }
  return id;
}

fs::path hub_cache_folder() {
  if (const auto hub = folder_from("HF_HUB_CACHE")) return *hub;
  if (const auto home = folder_from("HF_HOME")) return *home / "hub";
  if (const auto cache = folder_from("XDG_CACHE_HOME")) return *cache / "huggingface/hub";
  return folder_from("HOME").value_or(".") / ".cache/huggingface/hub";
}

fs::path find_in_hub_cache(const HubId& id, const fs::path& cache) {
  std::string folder = fmt::format("models/{}", id.repository);
  for (auto at = folder.find('/'); at != std::string::npos; at = folder.find('/', at)) {
    folder.replace(at, 1, "--");
  }
  const fs::path repository = cache / folder;
  std::string commit = id.revision;
  if (const fs::path ref = repository / "refs" / id.revision; is_there(ref)) {
    constexpr std::size_t kMaxRefBytes = 256;
    commit = trimmed(read_text_file(ref, kMaxRefBytes));
    if (!is_plain_file_name(commit)) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: {} is no commit", ref.string(), quote(commit)));
    }
  }
  const fs::path found = repository / "snapshots" / commit / id.subfolder;
  if (is_there(found)) return id.subfolder.empty() ? found.parent_path() : found;
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}{}{} is neither a path nor in {}; to download it: {}", id.repository,
                          id.subfolder.empty() ? "" : "/", id.subfolder, cache.string(),
                          download_command(id)));
}

fs::path resolve_model_path(const std::string& text) {
  if (is_there(text)) return text;
  const auto id = parse_hub_id(text);
  return id ? find_in_hub_cache(*id, hub_cache_folder()) : fs::path(text);
}

}  // namespace dither
