#pragma once

#include "base/error.h"
#include "base/log.h"
#include "ops/backend.h"

namespace dither {

/// The weights of a component that are on the device only while it works
/// (ops::Offload::kWhole), for the length of one request.
class VisitingWeights {
 public:
  /// Null: they are there all the time.
  explicit VisitingWeights(ops::OffloadedWeights* weights) : weights_(weights) {}
  ~VisitingWeights() {
    try {
      leave();
    } catch (const Error& error) {
      log::warn("{}", error.what());
    }
  }
  VisitingWeights(const VisitingWeights&) = delete;
  VisitingWeights& operator=(const VisitingWeights&) = delete;

  /// Work submitted from now on may use them.
  void come() {
    if (weights_ == nullptr || there_) return;
    weights_->begin();
    there_ = true;
    weights_->next();
  }
  /// None does any more.
  void leave() {
    if (!there_) return;
    there_ = false;
    weights_->end();
  }

 private:
  ops::OffloadedWeights* weights_;
  bool there_ = false;
};

}  // namespace dither
