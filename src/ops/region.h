#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ops/backend.h"

namespace dither::ops {

/// Names what a backend is given to do while the object lives: a stage, a step, a block of a model.
/// Regions nest. They change no result; profilers and reports group kernels by them.
class Region {
 public:
  /// `name` is the checkpoint's where there is one ("transformer_blocks.3") and has no '/'.
  /// `backend` outlives the region.
  Region(Backend& backend, std::string_view name) : backend_(backend) {
    backend_.begin_region(name);
  }
  ~Region() { backend_.end_region(); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

 private:
  Backend& backend_;
};

/// The open regions of a backend that keeps account of them.
class RegionStack {
 public:
  void begin(std::string_view name);
  void end() noexcept;

  /// Their names, outermost first: "DenoisingStage/step 1/transformer_blocks.3"; empty where none
  /// is open.
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::vector<std::size_t> outer_lengths_;  ///< of path_ before each begin()
};

}  // namespace dither::ops
