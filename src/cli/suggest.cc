#include "cli/suggest.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace dither::cli {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // Rows i-2, i-1 and i of the table whose entry [i][j] turns a[0, i) into b[0, j).
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> previous(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before.swap(previous);
    previous.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, substituted});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

namespace {

/// The shortest candidate that holds the whole word: --num-inference-steps for --steps.
std::optional<std::string> containing(std::string_view word,
                                      std::span<const std::string> candidates) {
  constexpr std::size_t kShortestPart = 3;
  const std::string_view part = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  if (part.size() < kShortestPart) return std::nullopt;
  std::optional<std::string> best;
  for (const std::string& candidate : candidates) {
    if (candidate.find(part) == std::string::npos) continue;
    if (!best || candidate.size() < best->size()) best = candidate;
  }
  return best;
}

/// Runs of whole parts of "--num-inference-steps": "num", "num-inference", ..., "steps".
std::vector<std::string_view> part_runs(std::string_view name) {
  name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
  std::vector<std::size_t> begins = {0};
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '-' || name[i] == '.') begins.push_back(i + 1);
  }
  std::vector<std::string_view> runs;
  for (std::size_t i = 0; i < begins.size(); ++i) {
    for (std::size_t j = i + 1; j <= begins.size(); ++j) {
      const std::size_t end = j < begins.size() ? begins[j] - 1 : name.size();
      runs.push_back(name.substr(begins[i], end - begins[i]));
    }
  }
  return runs;
}

/// The shortest candidate with parts that the word misspells: --num-inference-steps for --stpes.
std::optional<std::string> misspelt_part(std::string_view word,
                                         std::span<const std::string> candidates) {
  constexpr std::size_t kShortestPart = 4;  // below, one edit makes anything of anything
  const std::string_view part = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  if (part.size() < kShortestPart) return std::nullopt;
  std::optional<std::string> best;
  for (const std::string& candidate : candidates) {
    if (best && candidate.size() >= best->size()) continue;
    const bool close = std::ranges::any_of(part_runs(candidate), [&](std::string_view run) {
      return run.size() >= kShortestPart && edit_distance(part, run) <= part.size() / 4;
    });
    if (close) best = candidate;
  }
  return best;
}

}  // namespace

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates) {
  constexpr std::size_t kLongestWord = 64;  // no option is longer; bounds the quadratic table
  if (word.size() > kLongestWord) return std::nullopt;
  std::optional<std::string> best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  if (!best) best = containing(word, candidates);
  return best ? best : misspelt_part(word, candidates);
}

std::string did_you_mean(std::string_view word, std::span<const std::string> candidates) {
  const std::optional<std::string> best = nearest(word, candidates);
  return best ? fmt::format("; did you mean '{}'?", *best) : "";
}

}  // namespace dither::cli
