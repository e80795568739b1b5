#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace dither {

/// What went wrong, in the terms a caller can act on. The message says where and what would be
/// right; the code decides the exit status (cli) or the HTTP status (server).
enum class ErrorCode {
  kInvalidArgument,    ///< The caller asked for something impossible (option, size, shape).
  kNotFound,           ///< A file, folder, tensor or component does not exist.
  kDataLoss,           ///< A file is truncated, malformed or contradicts itself.
  kUnsupported,        ///< Well-formed, but not something this build can do.
  kResourceExhausted,  ///< Out of memory, disk or another limit.
  kIo,                 ///< The operating system refused a read or a write.
  kDevice,             ///< The accelerator or its driver failed.
  kCancelled,          ///< A callback or a signal asked to stop.
  kInternal,           ///< A bug in Dither.
};

/// Stable lower-case name of a code ("data_loss"), for logs and JSON.
std::string_view error_code_name(ErrorCode code);

/// The only exception type that leaves a Dither room. what() is one line for a person: it names the
/// file, tensor or option and the numbers involved.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace dither
