#include "io/json_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <map>
#include <set>
#include <type_traits>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "io/json_text.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxConfigBytes = std::size_t{4} << 20;

/// A value for a message, cut to a readable length.
std::string shown(const json& value) {
  constexpr std::size_t kMaxBytes = 60;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);  // so that it can be cut anywhere
  if (text.size() > kMaxBytes) text = text.substr(0, kMaxBytes) + "...";
  return text;
}

/// Which JSON values a C++ type accepts, and their name in a message.
template <typename T>
struct Kind;
template <>
struct Kind<bool> {
  static constexpr std::string_view kName = "a boolean";
  static bool accepts(const json& value) { return value.is_boolean(); }
};
template <std::signed_integral T>
struct Kind<T> {
  static constexpr std::string_view kName = sizeof(T) == 4 ? "a 32-bit integer" : "an integer";
  static bool accepts(const json& value) {
    if (value.is_number_unsigned()) return std::in_range<T>(value.get<std::uint64_t>());
    return value.is_number_integer() && std::in_range<T>(value.get<std::int64_t>());
  }
};
template <std::floating_point T>
struct Kind<T> {
  static constexpr std::string_view kName = "a finite number";
  static bool accepts(const json& value) {
    return value.is_number() && std::isfinite(static_cast<T>(value.get<double>()));
  }
};
template <>
struct Kind<std::string> {
  static constexpr std::string_view kName = "a string";
  static bool accepts(const json& value) { return value.is_string(); }
};
template <>
struct Kind<JsonConfig> {
  static constexpr std::string_view kName = "an object";
  static bool accepts(const json& value) { return value.is_object(); }
};
template <typename T>
struct Kind<std::vector<T>> {
  static constexpr std::string_view kName = "an array";
  static bool accepts(const json& value) { return value.is_array(); }
};

template <typename T>
constexpr bool kIsVector = false;
template <typename T>
constexpr bool kIsVector<std::vector<T>> = true;

}  // namespace

struct JsonConfig::Node {
  std::string file;
  std::string prefix;                    ///< "" at the root, "outer." inside
  std::shared_ptr<const json> document;  ///< keeps `object` alive
  const json* object = nullptr;
  std::set<std::string, std::less<>> read;
  std::map<std::string, std::shared_ptr<Node>, std::less<>> children;

  [[noreturn]] void fail(ErrorCode code, std::string_view key, const std::string& what) const {
    throw Error(code,
                fmt::format("{}: {} {}", file, quote(fmt::format("{}{}", prefix, key)), what));
  }

  /// Null when the key is absent or null; otherwise marks it as read.
  const json* look_up(std::string_view key) {
    const auto it = object->find(key);
    if (it == object->end()) return nullptr;
    read.emplace(key);
    return it->is_null() ? nullptr : &*it;
  }

  std::shared_ptr<Node> child(const std::string& key, const json& value) {
    auto& node = children[key];
    if (!node)
      node = std::make_shared<Node>(Node{file, prefix + key + ".", document, &value, {}, {}});
    return node;
  }

  template <typename T>
  T convert(const std::string& key, const json& value) {
    if (!Kind<T>::accepts(value)) {
      fail(ErrorCode::kDataLoss, key,
           fmt::format("must be {}, is {}", Kind<T>::kName, shown(value)));
    }
    if constexpr (std::is_same_v<T, JsonConfig>) {
      return JsonConfig(child(key, value));
    } else if constexpr (kIsVector<T>) {
      T elements;
      for (std::size_t i = 0; i < value.size(); ++i) {
        elements.push_back(
            convert<typename T::value_type>(fmt::format("{}[{}]", key, i), value[i]));
      }
      return elements;
    } else {
      return value.get<T>();
    }
  }

  void collect_unread(std::vector<std::string>& result) const {
    for (const auto& [key, value] : object->items()) {
      if (!key.starts_with('_') && !read.contains(key)) result.push_back(prefix + key);
    }
    for (const auto& [key, node] : children) node->collect_unread(result);
  }
};

JsonConfig::JsonConfig(std::shared_ptr<Node> node) : node_(std::move(node)) {}

JsonConfig JsonConfig::load(const std::filesystem::path& file) {
  return parse(read_text_file(file, kMaxConfigBytes), file.string());
}

JsonConfig JsonConfig::parse(std::string_view text, std::string description) {
  auto document = std::make_shared<const json>(parse_json_object(text, description));
  const json* root = document.get();
  return JsonConfig(
      std::make_shared<Node>(Node{std::move(description), "", std::move(document), root, {}, {}}));
}

const std::string& JsonConfig::file() const { return node_->file; }

bool JsonConfig::has(std::string_view key) const { return node_->object->contains(key); }

std::vector<std::string> JsonConfig::keys() const {
  std::vector<std::string> result;
  for (const auto& [key, value] : node_->object->items()) result.push_back(key);
  return result;
}

template <typename T>
std::optional<T> JsonConfig::find(std::string_view key) const {
  const json* value = node_->look_up(key);
  if (value == nullptr) return std::nullopt;
  return node_->convert<T>(std::string(key), *value);
}

template <typename T>
T JsonConfig::get(std::string_view key) const {
  auto value = find<T>(key);
  if (!value) {
    node_->fail(ErrorCode::kDataLoss, key,
                fmt::format("must be {}, is {}", Kind<T>::kName, has(key) ? "null" : "missing"));
  }
  return *std::move(value);
}

template <typename T>
void JsonConfig::expect(std::string_view key, const T& supported) const {
  const auto value = find<T>(key);
  if (value && *value != supported) {
    node_->fail(ErrorCode::kUnsupported, key,
                fmt::format("is {}, only {} is supported", shown(*value), shown(supported)));
  }
}

// NOLINTBEGIN(bugprone-macro-parentheses): T is a type, which parentheses would break.
#define DITHER_JSON_VALUE(T)                                             \
  template std::optional<T> JsonConfig::find<T>(std::string_view) const; \
  template T JsonConfig::get<T>(std::string_view) const
#define DITHER_JSON_TYPE(T)                                              \
  DITHER_JSON_VALUE(T);                                                  \
  DITHER_JSON_VALUE(std::vector<T>);                                     \
  template void JsonConfig::expect<T>(std::string_view, const T&) const; \
  template void JsonConfig::expect<std::vector<T>>(std::string_view, const std::vector<T>&) const

DITHER_JSON_TYPE(bool);
DITHER_JSON_TYPE(int);
DITHER_JSON_TYPE(std::int64_t);
DITHER_JSON_TYPE(float);
DITHER_JSON_TYPE(double);
DITHER_JSON_TYPE(std::string);
DITHER_JSON_VALUE(std::vector<std::vector<int>>);
DITHER_JSON_VALUE(JsonConfig);
DITHER_JSON_VALUE(std::vector<JsonConfig>);

// NOLINTEND(bugprone-macro-parentheses)

#undef DITHER_JSON_TYPE
#undef DITHER_JSON_VALUE

void JsonConfig::ignore(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys) node_->read.emplace(key);
}

std::vector<std::string> JsonConfig::unread_keys() const {
  std::vector<std::string> result;
  node_->collect_unread(result);
  return result;
}

void JsonConfig::warn_unread_keys() const {
  const auto unread = unread_keys();
  if (!unread.empty()) log::warn("{}: unknown keys: {}", file(), fmt::join(unread, ", "));
}

}  // namespace dither
