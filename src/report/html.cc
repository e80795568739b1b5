#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "media/png.h"

namespace dither::html {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string base64(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t taken = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < taken ? std::to_integer<std::uint32_t>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= taken ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
    }
  }
  return out;
}

std::string picture(const Image& image, std::string_view title) {
  return fmt::format(
      "<figure><img alt=\"{0}\" src=\"data:image/png;base64,{1}\"><figcaption>{0}</figcaption>"
      "</figure>\n",
      escape(title), base64(encode_png(image)));
}

std::string table(const std::vector<std::vector<std::string>>& rows, std::size_t first_number) {
  std::string out = "<div class=\"wide\"><table>\n";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const char* const cell = r == 0 ? "th" : "td";
    out += "<tr>";
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      out += fmt::format("<{0}{1}>{2}</{0}>", cell, c >= first_number ? " class=\"n\"" : "",
                         escape(rows[r][c]));
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string curve(std::string_view title, std::span<const double> values) {
  constexpr double kWidth = 320;
  constexpr double kHeight = 160;
  constexpr double kMargin = 8;
  constexpr double kTop = 40;  // the title and the largest value
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  const double range = high > low ? high - low : 1;
  const double stride =
      values.size() > 1 ? (kWidth - 2 * kMargin) / static_cast<double>(values.size() - 1) : 0;
  std::string points;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) continue;
    points += fmt::format("{:.1f},{:.1f} ", kMargin + stride * static_cast<double>(i),
                          kTop + (kHeight - kTop - 2 * kMargin) * (1 - (values[i] - low) / range));
  }
  return fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" role=\"img\" aria-label=\"{2}\">"
      "<text x=\"{3}\" y=\"14\">{2}</text>"
      "<text x=\"{3}\" y=\"30\" class=\"axis\">{4:.4g}</text>"
      "<text x=\"{3}\" y=\"{5}\" class=\"axis\">{6:.4g}</text>"
      "<polyline points=\"{7}\"/></svg>\n",
      kWidth, kHeight, escape(title), kMargin, high, kHeight - 2, low, points);
}

}  // namespace dither::html
