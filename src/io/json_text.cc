#include "io/json_text.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

using nlohmann::json;

/// nlohmann keeps the last of two equal keys; somebody who reads the file may see the first.
class StrictKeys {
 public:
  explicit StrictKeys(std::string_view path) : path_(path) {}

  bool operator()(int depth, json::parse_event_t event, json& value) {
    constexpr int kMaxDepth = 64;
    if (depth > kMaxDepth) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: nests deeper than {} levels", path_, kMaxDepth));
    }
    if (event == json::parse_event_t::object_start) open_objects_.emplace_back();
    if (event == json::parse_event_t::object_end) open_objects_.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& name = value.get_ref<const std::string&>();
      if (!open_objects_.back().insert(name).second) {
        throw Error(ErrorCode::kDataLoss,
                    fmt::format("{}: key {} stands twice", path_, quote(name)));
      }
    }
    return true;
  }

 private:
  std::string_view path_;
  std::vector<std::set<std::string>> open_objects_;
};

}  // namespace

json parse_json_object(std::string_view text, std::string_view path) {
  // nlohmann's lexer takes NUL for the end of the input and would ignore what follows.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: not valid JSON at byte {}", path, nul));
  }
  json document;
  StrictKeys strict(path);
  try {
    document = json::parse(text.begin(), text.end(), std::ref(strict));
  } catch (const json::parse_error& error) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: not valid JSON at byte {}", path, error.byte - 1));  // from 1
  } catch (const json::exception&) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: holds a number out of range", path));
  }
  if (!document.is_object()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: must be a JSON object, is {}", path, document.type_name()));
  }
  return document;
}

}  // namespace dither
