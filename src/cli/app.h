#pragma once

namespace dither::cli {

/// Runs one command line. Returns the exit status: 0, 1 after a failure, 2 for a wrong command
/// line, 128 + signal when stopped by one. Errors are one line on stderr.
int run(int argc, const char* const* argv);

}  // namespace dither::cli
