#include "tokenizers/json_fields.h"

#include <fmt/format.h>

#include <utility>

namespace dither {

JsonFields::JsonFields(const Json& object, std::string where)
    : object_(&object), where_(std::move(where)) {
  if (!object.is_object()) fail(fmt::format("is {}, not an object", object.type_name()));
}

bool JsonFields::has(const char* key) const {
  const auto found = object_->find(key);
  return found != object_->end() && !found->is_null();
}

const Json& JsonFields::at(const char* key) const {
  const auto found = object_->find(key);
  if (found == object_->end()) fail(fmt::format("has no '{}'", key));
  return *found;
}

JsonFields JsonFields::object(const char* key) const {
  return {at(key), fmt::format("{}: {}", where_, key)};
}

const Json& JsonFields::array(const char* key) const {
  const Json& value = at(key);
  if (!value.is_array()) fail(fmt::format("'{}' is {}, not an array", key, value.type_name()));
  return value;
}

std::string JsonFields::string(const char* key) const {
  const Json& value = at(key);
  if (!value.is_string()) fail(fmt::format("'{}' is {}, not a string", key, value.type_name()));
  return value.get<std::string>();
}

std::int64_t JsonFields::integer(const char* key) const {
  const Json& value = at(key);
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
  if (!fits) fail(fmt::format("'{}' is not a 64-bit integer", key));
  return value.get<std::int64_t>();
}

bool JsonFields::boolean(const char* key, bool absent) const {
  if (!has(key)) return absent;
  const Json& value = at(key);
  if (!value.is_boolean()) fail(fmt::format("'{}' is {}, not a boolean", key, value.type_name()));
  return value.get<bool>();
}

std::optional<std::string> JsonFields::optional_string(const char* key) const {
  if (!has(key)) return std::nullopt;
  return string(key);
}

void JsonFields::fail(std::string_view problem) const {
  throw Error(ErrorCode::kDataLoss, fmt::format("{} {}", where_, problem));
}

void JsonFields::unsupported(std::string_view problem) const {
  throw Error(ErrorCode::kUnsupported, fmt::format("{} {}", where_, problem));
}

Json parse_json(std::string_view text, const std::string& where) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: not JSON at byte {}", where, error.byte));
  } catch (const Json::exception& error) {  // a number out of range, say
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: {}", where, error.what()));
  }
}

}  // namespace dither
