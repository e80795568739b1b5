#pragma once

#include <string>
#include <vector>

#include "cli/bench_figures.h"
#include "cli/bench_run.h"

namespace dither::cli {

/// A column per result: times of a run, a step and every stage, share of peak, memory. Behind each,
/// where `saved` has a counterpart, a column with its figures and one with the ratio of the times
/// and of the memory, now over then: below 1 is better.
std::string bench_table(const std::vector<BenchResult>& results,
                        const std::vector<BenchFigures>& saved = {});

/// Every measurement as a JSON document.
std::string bench_json(const std::vector<BenchResult>& results);

}  // namespace dither::cli
