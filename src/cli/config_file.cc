#include "cli/config_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/options.h"
#include "cli/suggest.h"
#include "io/json_text.h"
#include "io/untrusted_name.h"

namespace dither::cli {
namespace {

constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20;

class ConfigReader {
 public:
  explicit ConfigReader(const std::filesystem::path& path) : path_(path.string()) {}

  std::vector<ConfigEntry> read_json(const std::string& text) {
    add_json("", parse_json_object(text, path_));
    return std::move(entries_);
  }

  std::vector<ConfigEntry> read_yaml(const std::string& text) {
    try {
      const YAML::Node root = YAML::Load(text);
      if (!root.IsMap()) {
        throw Error(ErrorCode::kDataLoss, fmt::format("{}: expected a map of options", path_));
      }
      add_yaml("", root, 0);
    } catch (const YAML::Exception& error) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: line {}: not YAML: {}", path_, error.mark.line + 1, error.msg));
    }
    return std::move(entries_);
  }

 private:
  /// `prefix` "component-paths" and key "vae" name "component-paths.vae".
  static std::string join(const std::string& prefix, std::string key) {
    std::ranges::replace(key, '_', '-');
    return prefix.empty() ? key : prefix + "." + key;
  }

  void add_json(const std::string& prefix, const nlohmann::json& map) {
    for (const auto& [key, value] : map.items()) {
      const std::string name = join(prefix, key);
      if (value.is_object()) {
        add_json(name, value);
      } else if (value.is_string()) {
        entries_.push_back({name, value.get<std::string>()});
      } else if (value.is_array()) {
        refuse_list(name);
      } else if (!value.is_null()) {
        entries_.push_back({name, value.dump()});
      }
    }
  }

  void add_yaml(const std::string& prefix, const YAML::Node& map, int depth) {
    constexpr int kMaxDepth = 8;  // aliases can make a document contain itself
    if (depth > kMaxDepth) {
      throw Error(ErrorCode::kDataLoss, fmt::format("{}: nested too deeply", path_));
    }
    for (const auto& item : map) {
      const std::string name = join(prefix, item.first.as<std::string>());
      const YAML::Node& value = item.second;
      if (value.IsMap()) {
        add_yaml(name, value, depth + 1);
      } else if (value.IsSequence()) {
        refuse_list(name);
      } else if (value.IsScalar()) {
        entries_.push_back({name, value.Scalar()});
      }
    }
  }

  [[noreturn]] void refuse_list(const std::string& name) const {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} takes one value, not a list", path_, quote(name)));
  }

  std::string path_;
  std::vector<ConfigEntry> entries_;
};

}  // namespace

std::vector<ConfigEntry> read_config_file(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  if (ending != ".json" && ending != ".yaml" && ending != ".yml") {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: a configuration file ends in .json, .yaml or .yml", path.string()));
  }
  const std::string text = read_text_file(path, kMaxConfigBytes);
  ConfigReader reader(path);
  return ending == ".json" ? reader.read_json(text) : reader.read_yaml(text);
}

void apply_config_file(CLI::App& command, const std::filesystem::path& path) {
  for (const ConfigEntry& entry : read_config_file(path)) {
    CLI::Option* const option = command.get_option_no_throw("--" + entry.name);
    if (option == nullptr || !option->get_configurable()) {
      const std::vector<std::string> names = long_option_names(command);
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: unknown option {}{}", path.string(), quote(entry.name),
                              did_you_mean("--" + entry.name, names)));
    }
    if (option->count() > 0) continue;  // the command line wins
    try {
      option->add_result(entry.value);
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", path.string(), error.what()));
    }
  }
}

}  // namespace dither::cli
