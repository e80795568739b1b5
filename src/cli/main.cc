#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "cli/app.h"
#include "cli/interrupt.h"

namespace {

/// By default a worker of libgomp that waits spins for tens of milliseconds: on processors that
/// other processes want too, it burns the time of the worker it waits for, and a picture takes ten
/// times as long. A fifth of a millisecond bridges the gaps between kernels as well. libgomp offers
/// no call for this and reads the environment when it is loaded, so the program starts over. The
/// user's own choice counts.
void bound_spinning(char** argv) {
  constexpr const char* kTurns = "5000";
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  std::error_code failed;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed || ::setenv("GOMP_SPINCOUNT", kTurns, 1) != 0) return;
  ::execv(program.c_str(), argv);  // when it fails, the default works too
}

}  // namespace

int main(int argc, char** argv) {
  bound_spinning(argv);
  dither::cli::install_signal_handlers();
  return dither::cli::run(argc, argv);
}
