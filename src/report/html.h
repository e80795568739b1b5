#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "media/image.h"

namespace dither::html {

/// Text that means itself in an element and in a quoted attribute.
std::string escape(std::string_view text);

/// RFC 4648, with padding.
std::string base64(std::span<const std::byte> bytes);

/// <img> whose PNG is part of the page.
std::string picture(const Image& image, std::string_view title);

/// <table>: the first row is the head. Cells are text; columns from `first_number` on are numbers.
std::string table(const std::vector<std::vector<std::string>>& rows, std::size_t first_number);

/// An inline <svg> with one curve over 0, 1, 2, ...; values that are not finite are left out.
std::string curve(std::string_view title, std::span<const double> values);

}  // namespace dither::html
