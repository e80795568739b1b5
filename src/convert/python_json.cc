#include "convert/python_json.h"

namespace dither::convert {
namespace {

using nlohmann::json;

/// A string, number, boolean or null. nlohmann prints floating-point numbers as Python does, but
/// for those from 1e15 on, where Python changes to an exponent one digit later.
std::string scalar(const json& value) { return value.dump(-1, ' ', true); }

void append(std::string& text, const json& value) {
  if (!value.is_structured()) {
    text += scalar(value);
    return;
  }
  text += value.is_object() ? '{' : '[';
  const char* separator = "";
  for (const auto& [key, item] : value.items()) {
    text += separator;
    if (value.is_object()) text += scalar(key) + ": ";
    append(text, item);
    separator = ", ";
  }
  text += value.is_object() ? '}' : ']';
}

}  // namespace

std::string python_json(const json& document) {
  std::string text;
  append(text, document);
  return text;
}

std::string python_json_indented(const json& document) { return document.dump(2, ' ', true); }

}  // namespace dither::convert
