#include "models/flux2/rope.h"

#include <vector>

namespace dither::models {
namespace {

/// Between the picture and the first reference, and from one to the next.
constexpr std::int64_t kReferenceTime = 10;

void add_grid(std::vector<TokenPosition>& positions, TokenGrid grid, std::int64_t time) {
  for (std::int64_t i = 0; i < grid.tokens(); ++i) {
    positions.push_back({time, i / grid.cols, i % grid.cols, 0});
  }
}

void add_references(std::vector<TokenPosition>& positions, std::span<const TokenGrid> references) {
  std::int64_t time = 0;
  for (const TokenGrid& reference : references) {
    time += kReferenceTime;
    add_grid(positions, reference, time);
  }
}

}  // namespace

ops::Rope flux2_rope(const Flux2Config& config, std::int64_t text_tokens, TokenGrid grid,
                     std::span<const TokenGrid> references, ops::Backend& backend) {
  std::vector<TokenPosition> positions;
  for (std::int64_t i = 0; i < text_tokens; ++i) positions.push_back({0, 0, 0, i});
  add_grid(positions, grid, 0);
  add_references(positions, references);
  return rope_tables(positions, config.axes_dims_rope, config.rope_theta, backend);
}

ops::Rope flux2_reference_rope(const Flux2Config& config, std::span<const TokenGrid> references,
                               ops::Backend& backend) {
  std::vector<TokenPosition> positions;
  add_references(positions, references);
  return rope_tables(positions, config.axes_dims_rope, config.rope_theta, backend);
}

}  // namespace dither::models
