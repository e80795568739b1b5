#include "nn/layer_sequence.h"

#include <algorithm>

namespace dither::nn {

bool layer_streams(std::int64_t layer, std::int64_t streamed, std::int64_t count) {
  return (layer + 1) * streamed / count > layer * streamed / count;
}

LayerSequence::LayerSequence(const WeightScope& scope, std::string_view name, std::int64_t count)
    : backend_(&scope.backend()), count_(count) {
  const StreamedLayers& plan = scope.streamed_layers();
  const auto planned = plan.find(name);
  if (planned == plan.end() || planned->second == 0) return;
  streamed_ = backend_->offload(ops::Offload::kStreamed);
  if (streamed_) streamed_count_ = std::min(planned->second, count);
}

void LayerSequence::add(const std::function<void()>& prepare) {
  const bool streams =
      layer_streams(static_cast<std::int64_t>(streams_.size()), streamed_count_, count_);
  streams_.push_back(streams);
  if (streams) {
    streamed_->add(prepare);
  } else {
    prepare();
  }
}

LayerSequence::Pass::Pass(const LayerSequence& sequence) : sequence_(sequence) {
  if (sequence_.streamed_) sequence_.streamed_->begin();
}

LayerSequence::Pass::~Pass() {
  // Of streamed parts nothing is open when the last has been used, and after an exception the next
  // pass starts anew.
  if (sequence_.streamed_ && done_ == sequence_.streams_.size()) sequence_.streamed_->end();
}

void LayerSequence::Pass::next() {
  if (sequence_.streams_.at(done_++)) sequence_.streamed_->next();
}

}  // namespace dither::nn
