#include "cli/app.h"
#include "cli/interrupt.h"

int main(int argc, char** argv) {
  dither::cli::install_signal_handlers();
  return dither::cli::run(argc, argv);
}
