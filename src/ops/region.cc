#include "ops/region.h"

namespace dither::ops {

void RegionStack::begin(std::string_view name) {
  outer_lengths_.push_back(path_.size());
  if (!path_.empty()) path_ += '/';
  path_ += name;
}

void RegionStack::end() noexcept {
  if (outer_lengths_.empty()) return;
  path_.resize(outer_lengths_.back());
  outer_lengths_.pop_back();
}

}  // namespace dither::ops
