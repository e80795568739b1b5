#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace dither {

/// A model of the Hugging Face hub: "owner/name[@revision][/subfolder]".
struct HubId {
  std::string repository;  ///< "owner/name"
  std::string revision = "main";
  std::string subfolder = {};  ///< "transformer"; empty: the whole repository
};

/// Nothing for text that is no id, or that looks like a path: one that starts with '/', '.' or '~',
/// ends with '/', or has an empty, "." or ".." part.
std::optional<HubId> parse_hub_id(std::string_view text);

/// Where downloads lie: $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub,
/// else ~/.cache/huggingface/hub. Source: huggingface_hub's constants.
std::filesystem::path hub_cache_folder();

/// The folder of an id in a cache: models--owner--name/snapshots/<commit>, the commit being the
/// revision itself or what refs/<revision> says. Reads only, and never the network. Throws
/// kNotFound with the command that downloads it, kDataLoss when the cache is damaged.
std::filesystem::path find_in_hub_cache(const HubId& id, const std::filesystem::path& cache);

/// What a user means by `text`: an existing file or folder, else a hub id in hub_cache_folder(),
/// else the path as it stands, for others to complain about.
std::filesystem::path resolve_model_path(const std::string& text);

}  // namespace dither
