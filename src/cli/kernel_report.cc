#include "cli/kernel_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "cli/text_table.h"

namespace dither::cli {
namespace {

using Align = TextTable::Align;
using Json = nlohmann::ordered_json;

constexpr std::size_t kNameWidth = 86;

double us(std::int64_t ns) { return static_cast<double>(ns) * 1e-3; }
std::int64_t duration_ns(const ops::KernelRecord& kernel) {
  return kernel.end_ns - kernel.begin_ns;
}

std::string shortened(const std::string& name) {
  return name.size() <= kNameWidth ? name : name.substr(0, kNameWidth - 3) + "...";
}

/// Kernels with something in common.
struct Total {
  std::int64_t calls = 0;
  std::int64_t ns = 0;

  void add(const ops::KernelRecord& kernel) {
    ++calls;
    ns += duration_ns(kernel);
  }
  std::string ms() const { return fmt::format("{:.3f}", us(ns) * 1e-3); }
  std::string share_of(std::int64_t all_ns) const {
    return fmt::format("{:.1f} %", 100 * static_cast<double>(ns) /
                                       static_cast<double>(std::max<std::int64_t>(all_ns, 1)));
  }
};

Total total_of(std::span<const ops::KernelRecord> kernels) {
  Total all;
  for (const ops::KernelRecord& kernel : kernels) all.add(kernel);
  return all;
}

/// Two cells: thousands of units a nanosecond, and their share of a peak in units a nanosecond.
void add_rate(std::int64_t units, std::int64_t ns, double peak, std::vector<std::string>& row) {
  if (units == 0 || ns == 0) {
    row.insert(row.end(), {"", ""});
    return;
  }
  const double rate = static_cast<double>(units) / static_cast<double>(ns);
  row.push_back(fmt::format("{:.{}f}", rate * 1e-3, rate < 10'000 ? 2 : 1));
  row.push_back(fmt::format("{:.0f} %", 100 * rate / peak));
}

struct Kind {
  Total total;
  Work work;
  std::set<std::string_view> regions;
  std::map<std::string, Total> kernels;
};

/// A map's entries, the one that took longest first.
template <typename Value, typename Ns>
std::vector<std::pair<std::string, Value>> longest_first(const std::map<std::string, Value>& map,
                                                         const Ns& ns) {
  std::vector<std::pair<std::string, Value>> rows(map.begin(), map.end());
  std::ranges::stable_sort(
      rows, [&](const auto& a, const auto& b) { return ns(a.second) > ns(b.second); });
  return rows;
}

/// The region around the operation; the region itself, where that is none.
std::string_view layer_of(std::string_view region, const WorkOfRegions& work) {
  if (!work.contains(std::string(region))) return region;
  const std::size_t end = region.rfind('/');
  return end == std::string_view::npos ? std::string_view() : region.substr(0, end);
}

/// By kind of what `group` makes of a region.
template <typename Group>
std::vector<std::pair<std::string, Kind>> by_kind(std::span<const ops::KernelRecord> kernels,
                                                  const WorkOfRegions& work, const Group& group) {
  std::map<std::string, Kind> kinds;
  for (const ops::KernelRecord& kernel : kernels) {
    const std::string_view region = group(kernel.region);
    Kind& kind = kinds[layer_kind(region)];
    kind.total.add(kernel);
    kind.regions.insert(region);
    kind.kernels[kernel.name].add(kernel);
  }
  for (const auto& [region, of_region] : work) {
    const auto found = kinds.find(layer_kind(group(region)));
    if (found != kinds.end()) found->second.work += of_region;
  }
  return longest_first(kinds, [](const Kind& kind) { return kind.total.ns; });
}

std::vector<std::string_view> split(std::string_view region) {
  std::vector<std::string_view> names;
  while (!region.empty()) {
    const std::size_t end = std::min(region.find('/'), region.size());
    names.push_back(region.substr(0, end));
    region.remove_prefix(std::min(end + 1, region.size()));
  }
  return names;
}

/// Follows the kernels and writes down each region when it is left.
class RegionTrack {
 public:
  explicit RegionTrack(std::int64_t origin_ns) : origin_ns_(origin_ns) {}

  /// The kernel that begins next; "" leaves every region.
  void enter(std::string_view region, std::int64_t begin_ns) {
    const std::vector<std::string_view> names = split(region);
    std::size_t same = 0;
    while (same < std::min(names.size(), open_.size()) && names[same] == open_[same].name) ++same;
    // A kernel may begin before its predecessor has ended, slices of one track may not.
    const std::int64_t end_ns = std::min(last_end_ns_, begin_ns);
    while (open_.size() > same) {
      events_.push_back({{"name", open_.back().name},
                         {"ph", "X"},
                         {"ts", us(open_.back().begin_ns - origin_ns_)},
                         {"dur", us(end_ns - open_.back().begin_ns)},
                         {"pid", 0},
                         {"tid", 1}});
      open_.pop_back();
    }
    for (std::size_t i = same; i < names.size(); ++i) open_.push_back({names[i], begin_ns});
  }
  void ran_until(std::int64_t end_ns) { last_end_ns_ = std::max(last_end_ns_, end_ns); }

  std::vector<Json>& finish() {
    enter("", last_end_ns_);
    return events_;
  }

 private:
  struct Open {
    std::string_view name;
    std::int64_t begin_ns;
  };
  std::int64_t origin_ns_;
  std::int64_t last_end_ns_ = 0;
  std::vector<Open> open_;
  std::vector<Json> events_;
};

Json track_name(int track, const char* name) {
  return {
      {"name", "thread_name"}, {"ph", "M"}, {"pid", 0}, {"tid", track}, {"args", {{"name", name}}}};
}

}  // namespace

std::string layer_kind(std::string_view region) {
  if (region.empty()) return "(no region)";
  std::string kind;
  for (std::string_view name : split(region)) {
    const std::size_t last = name.find_last_not_of("0123456789");
    if (last != std::string_view::npos && last > 0 && last + 1 < name.size() &&
        (name[last] == '.' || name[last] == ' ')) {
      name = name.substr(0, last);
    }
    if (!kind.empty()) kind += '/';
    kind += name;
  }
  return kind;
}

std::string layer_table(std::span<const ops::KernelRecord> kernels, const WorkOfRegions& work,
                        const Peaks& peaks) {
  TextTable table({Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight,
                   Align::kRight, Align::kRight});
  table.add({"layer", "regions", "kernels", "all (ms)", "share", "TFLOP/s", "of peak"});
  const std::int64_t all_ns = total_of(kernels).ns;
  const auto layer = [&](std::string_view region) { return layer_of(region, work); };
  for (const auto& [name, kind] : by_kind(kernels, work, layer)) {
    std::vector<std::string> row = {name, fmt::format("{}", kind.regions.size()),
                                    fmt::format("{}", kind.total.calls), kind.total.ms(),
                                    kind.total.share_of(all_ns)};
    add_rate(kind.work.flops, kind.total.ns, peaks.gflop_per_second, row);
    table.add(std::move(row));
  }
  return table.to_string();
}

std::string kernel_table(std::span<const ops::KernelRecord> kernels, const WorkOfRegions& work,
                         const Peaks& peaks) {
  TextTable table({Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight,
                   Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  table.add({"operation, kernel", "calls", "each (us)", "all (ms)", "share", "TFLOP/s", "of peak",
             "TB/s", "of copy"});
  const std::int64_t all_ns = total_of(kernels).ns;
  const auto operation = [](std::string_view region) { return region; };
  for (const auto& [name, kind] : by_kind(kernels, work, operation)) {
    std::vector<std::string> row = {name, fmt::format("{}", kind.total.calls), "", kind.total.ms(),
                                    kind.total.share_of(all_ns)};
    add_rate(kind.work.flops, kind.total.ns, peaks.gflop_per_second, row);
    add_rate(kind.work.bytes, kind.total.ns, peaks.gb_per_second, row);
    table.add(std::move(row));
    for (const auto& [kernel, total] :
         longest_first(kind.kernels, [](const Total& t) { return t.ns; })) {
      table.add({"  " + shortened(kernel), fmt::format("{}", total.calls),
                 fmt::format("{:.1f}", us(total.ns) / static_cast<double>(total.calls)), total.ms(),
                 total.share_of(all_ns)});
    }
  }
  return table.to_string();
}

std::string chrome_trace(std::span<const ops::KernelRecord> kernels) {
  Json events = Json::array({track_name(0, "kernels"), track_name(1, "layers")});
  const std::int64_t origin = kernels.empty() ? 0 : kernels.front().begin_ns;
  RegionTrack regions(origin);
  for (const ops::KernelRecord& kernel : kernels) {
    regions.enter(kernel.region, kernel.begin_ns);
    regions.ran_until(kernel.end_ns);
    events.push_back({{"name", kernel.name},
                      {"ph", "X"},
                      {"ts", us(kernel.begin_ns - origin)},
                      {"dur", us(duration_ns(kernel))},
                      {"pid", 0},
                      {"tid", 0},
                      {"args", {{"layer", kernel.region}}}});
  }
  for (Json& event : regions.finish()) events.push_back(std::move(event));
  return Json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

}  // namespace dither::cli
