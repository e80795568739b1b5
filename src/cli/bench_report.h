#pragma once

#include <string>
#include <vector>

#include "cli/bench_run.h"

namespace dither::cli {

/// A column per result: times of a run, a step and every stage, share of peak, memory.
std::string bench_table(const std::vector<BenchResult>& results);

/// Every measurement as a JSON document.
std::string bench_json(const std::vector<BenchResult>& results);

}  // namespace dither::cli
