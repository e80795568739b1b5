#include "nn/layer_sequence.h"

#include <algorithm>

namespace dither::nn {

bool layer_streams(std::int64_t layer, std::int64_t streamed, std::int64_t count) {
  return (layer + 1) * streamed / count > layer * streamed / count;
}

LayerSequence::LayerSequence(const WeightScope& scope, std::string_view name, std::int64_t count)
    : backend_(&scope.backend()), turn_(scope.turn()), count_(count) {
  const StreamedLayers& plan = scope.streamed_layers();
  const auto planned = plan.find(name);
  if (planned == plan.end() || planned->second == 0) return;
  streamed_ = backend_->stream_weights();
  if (streamed_) streamed_count_ = std::min(planned->second, count);
}

void LayerSequence::add(const std::function<void()>& prepare) {
  const bool streams =
      layer_streams(static_cast<std::int64_t>(streams_.size()), streamed_count_, count_);
  streams_.push_back(streams);
  if (streams) {
    streamed_->add(prepare);
  } else if (turn_.turns != nullptr) {
    parts_.push_back(turn_.turns->add(turn_.turn, prepare));
  } else {
    prepare();
  }
}

LayerSequence::Pass::Pass(const LayerSequence& sequence) : sequence_(sequence) {
  if (sequence_.streamed_) sequence_.streamed_->begin();
}

void LayerSequence::Pass::next() {
  if (sequence_.streams_.at(done_++)) sequence_.streamed_->next();
}

void LayerSequence::Pass::used() {
  if (!sequence_.parts_.empty()) sequence_.turn_.turns->used(sequence_.parts_.at(done_ - 1));
}

}  // namespace dither::nn
