#pragma once

#include <png.h>

#include <array>
#include <cstdio>

namespace dither {

/// Where libpng reports: it keeps the message and jumps back to the latest setjmp. A function that
/// calls setjmp must have no object with a destructor in its frame, nor may a callback: longjmp
/// would skip it.
struct PngErrorState {
  std::array<char, 128> message{};

  static void on_error(png_structp png, png_const_charp text) {
    auto* state = static_cast<PngErrorState*>(png_get_error_ptr(png));
    std::snprintf(state->message.data(), state->message.size(), "%s", text);
    png_longjmp(png, 1);
  }
  /// libpng warns about ancillary chunks that it then ignores; so do we.
  static void on_warning(png_structp, png_const_charp) {}
};

}  // namespace dither
