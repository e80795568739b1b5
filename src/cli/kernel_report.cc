#include "cli/kernel_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/text_table.h"

namespace dither::cli {
namespace {

constexpr std::size_t kNameWidth = 88;

double us(std::int64_t ns) { return static_cast<double>(ns) * 1e-3; }

std::string shortened(const std::string& name) {
  return name.size() <= kNameWidth ? name : name.substr(0, kNameWidth - 3) + "...";
}

}  // namespace

std::string kernel_table(std::span<const ops::KernelRecord> kernels) {
  struct Total {
    std::int64_t calls = 0;
    std::int64_t ns = 0;
  };
  std::map<std::string, Total> by_name;
  std::int64_t busy_ns = 0;
  for (const ops::KernelRecord& kernel : kernels) {
    Total& total = by_name[kernel.name];
    ++total.calls;
    total.ns += kernel.end_ns - kernel.begin_ns;
    busy_ns += kernel.end_ns - kernel.begin_ns;
  }
  std::vector<std::pair<std::string, Total>> rows(by_name.begin(), by_name.end());
  std::ranges::sort(rows, [](const auto& a, const auto& b) { return a.second.ns > b.second.ns; });

  using Align = TextTable::Align;
  TextTable table({Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  table.add({"kernel", "calls", "each (us)", "all (ms)", "share"});
  for (const auto& [name, total] : rows) {
    table.add(
        {shortened(name), fmt::format("{}", total.calls),
         fmt::format("{:.1f}", us(total.ns) / static_cast<double>(total.calls)),
         fmt::format("{:.3f}", us(total.ns) * 1e-3),
         fmt::format("{:.1f} %", 100 * static_cast<double>(total.ns) /
                                     static_cast<double>(std::max<std::int64_t>(busy_ns, 1)))});
  }
  return table.to_string();
}

std::string chrome_trace(std::span<const ops::KernelRecord> kernels) {
  nlohmann::ordered_json events = nlohmann::ordered_json::array();
  const std::int64_t origin = kernels.empty() ? 0 : kernels.front().begin_ns;
  for (const ops::KernelRecord& kernel : kernels) {
    events.push_back({{"name", kernel.name},
                      {"ph", "X"},
                      {"ts", us(kernel.begin_ns - origin)},
                      {"dur", us(kernel.end_ns - kernel.begin_ns)},
                      {"pid", 0},
                      {"tid", 0}});
  }
  return nlohmann::ordered_json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

}  // namespace dither::cli
