#pragma once

#include <spdlog/spdlog.h>

namespace dither {

/// Diagnostics go through spdlog's default logger, which the command line points at stderr. Library
/// users configure it like any spdlog logger. Use log::warn("{}: ...", path) and friends.
namespace log = ::spdlog;

}  // namespace dither
