#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dither::cli {

/// Rows of text cells, printed in aligned columns: numbers to the right, the rest to the left.
class TextTable {
 public:
  enum class Align : std::uint8_t { kLeft, kRight };

  /// One alignment per column.
  explicit TextTable(std::vector<Align> columns) : columns_(std::move(columns)) {}

  /// Missing cells are empty; there may be no more cells than columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  /// One line per row, each ending in a newline, two spaces between columns, none at the end.
  std::string to_string() const;

 private:
  std::vector<Align> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace dither::cli
