#pragma once

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dither {

/// A JSON object that configures something (config.json, scheduler_config.json), read key by key.
/// Getters exist for bool, int, std::int64_t, float, double, std::string, JsonConfig (an object)
/// and vectors of these, and vectors of vectors of int. Errors name file and key:
/// "transformer/config.json: 'num_layers' must be an integer, is \"two\"". Remembers which keys
/// were read, so that the rest can be reported. Copies share the document and what was read of it.
class JsonConfig {
 public:
  /// Throws kNotFound, kIo, kDataLoss (over 4 MiB, malformed JSON, duplicate keys, not an object).
  static JsonConfig load(const std::filesystem::path& file);
  /// The same for text already in memory; `description` stands for the file in messages.
  static JsonConfig parse(std::string_view text, std::string description);

  /// The file, as messages name it.
  const std::string& file() const;

  /// Present, even if null. Does not count as reading.
  bool has(std::string_view key) const;
  /// All keys, sorted.
  std::vector<std::string> keys() const;

  /// Nothing when the key is absent or null (Python's None). Throws kDataLoss on another type.
  template <typename T>
  std::optional<T> find(std::string_view key) const;

  /// Throws kDataLoss when absent, null or of another type.
  template <typename T>
  T get(std::string_view key) const;

  /// `fallback` when absent or null.
  template <typename T>
  T get(std::string_view key, T fallback) const {
    auto value = find<T>(key);
    return value ? std::move(*value) : std::move(fallback);
  }

  /// Replaces `value`, unless the key is absent or null.
  template <typename T>
  void read(std::string_view key, T& value) const {
    if (auto found = find<T>(key)) value = std::move(*found);
  }

  /// The key may be absent, null or `supported`. Throws kUnsupported on any other value: the file
  /// asks for something that this program does not do.
  template <typename T>
  void expect(std::string_view key, const T& supported) const;

  /// These keys are known and mean nothing here.
  void ignore(std::initializer_list<std::string_view> keys) const;

  /// Keys never read nor ignored, in nested objects that were read too ("group.key"), sorted. Keys
  /// that begin with '_' are comments of the writing library and never listed.
  std::vector<std::string> unread_keys() const;
  /// Logs one warning that lists unread_keys(), if any.
  void warn_unread_keys() const;

 private:
  struct Node;
  explicit JsonConfig(std::shared_ptr<Node> node);

  std::shared_ptr<Node> node_;
};

}  // namespace dither
