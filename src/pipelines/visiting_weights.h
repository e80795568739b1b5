#pragma once

#include "base/error.h"
#include "base/log.h"
#include "ops/backend.h"

namespace dither {

/// The weights of components that are on the device only while they work, for the length of one
/// request.
class VisitingWeights {
 public:
  /// Null: they are there all the time.
  explicit VisitingWeights(ops::WeightTurns* weights) : weights_(weights) {}
  ~VisitingWeights() {
    try {
      leave();
    } catch (const Error& error) {
      log::warn("{}", error.what());
    }
  }
  VisitingWeights(const VisitingWeights&) = delete;
  VisitingWeights& operator=(const VisitingWeights&) = delete;

  /// Work submitted from now on may use those of one component.
  void come(int turn = 0) {
    if (weights_ == nullptr) return;
    there_ = true;  // or a part of them, if not all can come
    weights_->come(turn);
  }
  /// ops::WeightTurns::expect_last_uses().
  void expect_last_uses(int uses) {
    if (there_) weights_->expect_last_uses(uses);
  }
  /// None does any more.
  void leave() {
    if (!there_) return;
    there_ = false;
    weights_->leave();
  }

 private:
  ops::WeightTurns* weights_;
  bool there_ = false;
};

}  // namespace dither
