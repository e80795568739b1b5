#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <type_traits>
#include <vector>

#include "nn/weight_scope.h"
#include "ops/backend.h"
#include "ops/region.h"

namespace dither::nn {

/// True when layer `layer` of `count` is one of the `streamed` ones: the last of every count /
/// streamed, so that each is fetched while resident ones compute.
bool layer_streams(std::int64_t layer, std::int64_t streamed, std::int64_t count);

/// Layers of a model in the order in which they run, each with its weights on the device or, as the
/// scope's StreamedLayers say, waiting in host memory for its turn. What they compute is the same.
/// Of a model that takes turns with another each layer is a part (ops::WeightTurns), whose place is
/// free for the other's when it has been used for the last time.
class LayerSequence {
 public:
  /// `name`: in the scope's StreamedLayers; `count`: layers that will be added.
  LayerSequence(const WeightScope& scope, std::string_view name, std::int64_t count);

  /// Calls `prepare`, which makes the next layer.
  void add(const std::function<void()>& prepare);

  /// One run through all layers.
  class Pass {
   public:
    explicit Pass(const LayerSequence& sequence);
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

    /// The result of `work`, which uses the weights of the next layer; `name` is the layer's, for
    /// traces.
    template <typename Work>
    auto run(std::string_view name, const Work& work) {
      const ops::Region region(*sequence_.backend_, name);
      next();
      if constexpr (std::is_void_v<decltype(work())>) {
        work();
        used();
      } else {
        auto result = work();
        used();
        return result;
      }
    }

   private:
    void next();
    void used();

    const LayerSequence& sequence_;
    std::size_t done_ = 0;
  };

 private:
  ops::Backend* backend_;
  std::unique_ptr<ops::StreamedWeights> streamed_;  ///< null: none streams
  ops::ModelTurn turn_;
  std::vector<std::size_t> parts_;  ///< of turn_, by layer; none: it has none
  std::int64_t count_;
  std::int64_t streamed_count_ = 0;
  std::vector<bool> streams_;  ///< by layer
};

}  // namespace dither::nn
