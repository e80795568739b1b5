#include "cli/interrupt.h"

#include <csignal>

#include "base/error.h"

namespace dither::cli {
namespace {

volatile std::sig_atomic_t received_signal = 0;

extern "C" void remember_signal(int signal) { received_signal = signal; }

}  // namespace

void install_signal_handlers() {
  struct sigaction action{};
  action.sa_handler = remember_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);
}

int interrupt_signal() { return received_signal; }

void throw_if_interrupted() {
  if (received_signal != 0) throw Error(ErrorCode::kCancelled, "stopped by a signal");
}

}  // namespace dither::cli
