#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace dither::convert {

/// The document as Python's json.dumps(sort_keys=True) prints it: one line, ", " and ": " between
/// items, everything beyond ASCII escaped. Readers compare such strings between files.
std::string python_json(const nlohmann::json& document);

/// As json.dumps(indent=2, sort_keys=True) prints it.
std::string python_json_indented(const nlohmann::json& document);

}  // namespace dither::convert
