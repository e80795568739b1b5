#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace dither {

using Json = nlohmann::json;

/// A JSON object together with where it stands, so that every complaint says where. Accessors throw
/// kDataLoss for a missing key or a value of another type. Keeps a reference to the JSON.
class JsonFields {
 public:
  /// `where` reads like "tokenizer/tokenizer.json: model".
  JsonFields(const Json& object, std::string where);

  const std::string& where() const { return where_; }
  bool has(const char* key) const;  ///< Present and not null.

  const Json& at(const char* key) const;
  JsonFields object(const char* key) const;
  const Json& array(const char* key) const;
  std::string string(const char* key) const;
  std::int64_t integer(const char* key) const;
  bool boolean(const char* key, bool absent) const;
  std::optional<std::string> optional_string(const char* key) const;

  /// kDataLoss with the place and `problem`.
  [[noreturn]] void fail(std::string_view problem) const;
  /// kUnsupported with the place and `problem`.
  [[noreturn]] void unsupported(std::string_view problem) const;

 private:
  const Json* object_;
  std::string where_;
};

/// Runs `make`; an Error from parts that know of no file gets the place put in front.
template <typename Make>
auto located(const JsonFields& fields, Make&& make) {
  try {
    return make();
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with(fields.where())) throw;
    throw Error(error.code(), fields.where() + ": " + error.what());
  }
}

/// Parses `text`; `where` names the file. Throws kDataLoss with the byte offset.
Json parse_json(std::string_view text, const std::string& where);

}  // namespace dither
