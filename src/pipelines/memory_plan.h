#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/tensor_table.h"
#include "nn/weight_scope.h"
#include "pipelines/stage.h"
#include "quant/weight_policy.h"
#include "quant/weight_source.h"

namespace dither {

/// What shall not stay on the device, whether it would fit or not. "The transformer" of a pipeline
/// with two experts is each of them.
struct OffloadOptions {
  bool dit_cpu_offload = false;           ///< the transformer is there while it denoises
  bool dit_layerwise_offload = false;     ///< its layers come one after the other, in every step
  bool text_encoder_cpu_offload = false;  ///< so do the text encoder's, once a prompt
};

/// Layers of one sequence (nn/layer_sequence.h).
struct SequenceBytes {
  std::string name;
  std::vector<std::size_t> layers;  ///< device bytes of each

  std::size_t total() const;
};

/// What a component's weights take on a device, in the layout in which kernels read them.
struct ComponentBytes {
  std::string name;
  std::size_t fixed = 0;  ///< of what is in no sequence
  std::vector<SequenceBytes> sequences;
  /// As the checkpoint stores them, NVFP4's scales of blocks included: what loading reads.
  std::size_t stored = 0;
};

/// From headers alone; `dtype` is the activations'. FP8 layers take a byte a weight where that is
/// kBF16, those that `policy` makes or keeps FP8 always.
ComponentBytes component_bytes(std::string name, const nn::TensorTable& table,
                               const quant::WeightSource& source, DType dtype,
                               const quant::WeightPolicy& policy = {});

/// A component that takes part in a plan.
struct PlannedComponent {
  ComponentBytes bytes;
  Stage stage = Stage::kDenoising;  ///< in which it works
  /// Of components that work in the same stage one after the other: which is the first, the second.
  int turn = 0;
  bool denoiser = false;  ///< "the transformer" of OffloadOptions
  /// The sequence whose layers are used in every step; those of others are, once a prompt.
  std::string every_step = {};
};

/// Where a component's weights are.
struct ComponentPlacement {
  std::string name;
  bool whole = false;            ///< all of it comes for its stage and leaves after it
  nn::StreamedLayers streamed;   ///< how many layers of which sequence stream
  std::size_t device_bytes = 0;  ///< while it works: resident weights and room for layers
  std::size_t host_bytes = 0;    ///< that wait in pinned host memory
  std::size_t stored_bytes = 0;  ///< ComponentBytes::stored
};

struct MemoryPlan {
  std::vector<ComponentPlacement> components;
  std::size_t activation_bytes = 0;            ///< of the stage that needs most
  std::size_t peak_bytes = 0;                  ///< estimate, weights and activations
  std::optional<std::size_t> available_bytes;  ///< absent: on this device nothing is planned

  const ComponentPlacement& of(std::string_view component) const;
  bool offloads() const;
  /// Of all components.
  std::size_t stored_bytes() const;
};

/// Device bytes that computing takes beside the weights, by stage.
struct ActivationBytes {
  std::size_t text_encoding = 0;
  std::size_t denoising = 0;
  std::size_t decoding = 0;  ///< or encoding pictures, whichever takes more
  /// With --vae-tiling, to be named where that would fit; absent where that is not known.
  std::optional<std::size_t> tiled_decoding = {};
};

/// Where the weights go so that every stage fits into `available` bytes. Resident where that fits.
/// Else what costs least: layers used once per prompt stream, in the order of the components; then
/// denoisers that take turns are there for their turn only; where that is not enough, as few layers
/// as it takes of those used in every step stream instead. Throws kInvalidArgument for
/// options that exclude each other, kResourceExhausted with the missing MiB, and what else would
/// help, when not even that fits.
MemoryPlan plan_memory(const std::vector<PlannedComponent>& components,
                       const ActivationBytes& activations, std::optional<std::size_t> available,
                       const OffloadOptions& options);

/// A table for people, a line per component; empty where nothing is offloaded.
std::string to_string(const MemoryPlan& plan);

/// "resident", "transformer offloaded", "57 blocks of transformer streamed": for reports.
std::string summarize(const MemoryPlan& plan);

}  // namespace dither
