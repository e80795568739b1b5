#pragma once

namespace dither::cli {

/// From now on the first SIGINT or SIGTERM only sets a flag, so that work stops between two steps
/// and leaves no partial file; a second one ends the process at once. Writing beyond a file size
/// limit becomes an error of write() instead of a signal.
void install_signal_handlers();

/// The signal that asked to stop, or 0.
int interrupt_signal();

/// Throws kCancelled once a signal has asked to stop.
void throw_if_interrupted();

}  // namespace dither::cli
