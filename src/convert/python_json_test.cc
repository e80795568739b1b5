#include "convert/python_json.h"

#include <gtest/gtest.h>

namespace dither::convert {
namespace {

// Expected: json.dumps(document, sort_keys=True[, indent=2]) of Python 3.11.
TEST(PythonJson, PrintsAsPythonDoes) {
  const auto document = nlohmann::json::parse(
      R"({"b": [1, 2.5, 1e-6, 448.0, 1e22], "a": {"x": null, "y": true, "e": []}, "é\n\u007f": {}})");
  EXPECT_EQ(python_json(document),
            R"({"a": {"e": [], "x": null, "y": true}, "b": [1, 2.5, 1e-06, 448.0, 1e+22], )"
            R"("\u00e9\n\u007f": {}})");
  EXPECT_EQ(python_json_indented(nlohmann::json::parse(R"({"b": [1], "a": {}})")),
            "{\n  \"a\": {},\n  \"b\": [\n    1\n  ]\n}");
}

}  // namespace
}  // namespace dither::convert
