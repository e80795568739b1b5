#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "report/comparison.h"

namespace dither::cli {

/// A result misses a limit that was set for it. Not an Error: nothing went wrong.
class LimitMissed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A limit of --fail-below.
struct Limit {
  std::string metric;  ///< "cosine", of the selected step, or "psnr", of the picture in dB
  double at_least = 0;
};

/// "cosine=0.99" or "psnr=30". Throws kInvalidArgument.
Limit parse_limit(const std::string& text);

/// Throws LimitMissed, naming every limit that is missed and by what, Error (kInvalidArgument) when
/// there is no picture to hold a limit against. A NaN misses every limit.
void check_limits(const Comparison& comparison, const std::vector<Limit>& limits);

}  // namespace dither::cli
