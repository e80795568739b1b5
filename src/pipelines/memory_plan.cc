#include "pipelines/memory_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>

#include "base/error.h"
#include "nn/layer_sequence.h"

namespace dither {
namespace {

/// Every weight starts at a multiple.
constexpr std::size_t kAlignment = 512;
/// Layers that have room on the device while they stream: one works, one arrives.
constexpr std::size_t kStreamedPlaces = 2;

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }
double gib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

/// A layer whose weight is E4M3 codes in memory.
bool keeps_codes(const quant::LayerPlan& layer, DType dtype, const quant::WeightPolicy& policy) {
  switch (layer.format) {
    case quant::Format::kFp8:
      return dtype == DType::kBF16;
    case quant::Format::kNvfp4:
      return policy.nvfp4_as_fp8;
    case quant::Format::kNone:
      if (layer.stored == DType::kF8E4M3) return policy.keep_fp8;
      return policy.plain_as_fp8 && layer.fallback.empty();
  }
  return false;
}

/// The layer whose weight this is; null for other tensors.
const quant::LayerPlan* find_layer(const nn::TensorSpec& spec, const quant::WeightSource& source) {
  constexpr std::string_view kWeight = ".weight";
  if (!spec.name.ends_with(kWeight)) return nullptr;
  return source.find_layer(spec.name.substr(0, spec.name.size() - kWeight.size()));
}

std::size_t stored_bytes(const nn::TensorSpec& spec, const quant::WeightSource& source) {
  constexpr std::size_t kNvfp4Block = 16;  // weights that share a scale of one byte
  const TensorInfo* info = source.find(spec.name);
  if (info == nullptr) return 0;
  const quant::LayerPlan* layer = find_layer(spec, source);
  const DType stored = layer != nullptr ? layer->stored : info->dtype;
  const auto elements = static_cast<std::size_t>(element_count(info->shape));
  const std::size_t scales = stored == DType::kF4E2M1 ? elements / kNvfp4Block : 0;
  return elements * static_cast<std::size_t>(dtype_bits(stored)) / 8 + scales;
}

std::size_t resident_bytes(const nn::TensorSpec& spec, const quant::WeightSource& source,
                           DType dtype, const quant::WeightPolicy& policy) {
  const quant::LayerPlan* layer = find_layer(spec, source);
  const bool codes = layer != nullptr && keeps_codes(*layer, dtype, policy);
  const auto elements = static_cast<std::size_t>(element_count(spec.shape));
  const auto bits =
      static_cast<std::size_t>(dtype_bits(codes ? DType::kF8E4M3 : spec.dtype.value_or(dtype)));
  const std::size_t bytes = elements * bits / 8;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// One component on its way to a placement.
class Placer {
 public:
  explicit Placer(const PlannedComponent& component) : component_(component) {}

  void offload_whole(bool whole) { whole_ = whole; }
  bool whole() const { return whole_; }
  void stream(std::size_t sequence, std::size_t layers) { streamed_[sequence] = layers; }
  std::size_t streamed(std::size_t sequence) const { return streamed_[sequence]; }
  std::size_t sequences() const { return component_.bytes.sequences.size(); }
  const PlannedComponent& component() const { return component_; }

  /// While it works.
  std::size_t device_bytes() const {
    std::size_t bytes = component_.bytes.fixed;
    for (std::size_t i = 0; i < sequences(); ++i) {
      const SequenceBytes& sequence = component_.bytes.sequences[i];
      bytes += sequence.total() - waiting(i) + room(i);
    }
    return bytes;
  }
  std::size_t device_bytes(Stage stage, int turn) const {
    const bool works = stage == component_.stage && turn == component_.turn;
    return whole_ && !works ? 0 : device_bytes();
  }
  ComponentPlacement placement() const {
    ComponentPlacement placed{.name = component_.bytes.name,
                              .whole = whole_,
                              .streamed = {},
                              .device_bytes = device_bytes(),
                              .host_bytes = whole_ ? device_bytes() : 0,
                              .stored_bytes = component_.bytes.stored};
    for (std::size_t i = 0; i < sequences(); ++i) {
      if (streamed_[i] == 0) continue;
      placed.streamed[component_.bytes.sequences[i].name] = static_cast<std::int64_t>(streamed_[i]);
      placed.host_bytes += waiting(i);
    }
    return placed;
  }

 private:
  std::size_t waiting(std::size_t sequence) const {
    const auto& layers = component_.bytes.sequences[sequence].layers;
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const bool streams = nn::layer_streams(static_cast<std::int64_t>(i),
                                             static_cast<std::int64_t>(streamed_[sequence]),
                                             static_cast<std::int64_t>(layers.size()));
      if (streams) bytes += layers[i];
    }
    return bytes;
  }
  std::size_t room(std::size_t sequence) const {
    if (streamed_[sequence] == 0) return 0;
    return kStreamedPlaces * std::ranges::max(component_.bytes.sequences[sequence].layers);
  }

  const PlannedComponent& component_;
  bool whole_ = false;
  std::vector<std::size_t> streamed_ = std::vector<std::size_t>(sequences());
};

struct StageNeed {
  Stage stage = Stage::kTextEncoding;
  std::size_t weights = 0;
  std::size_t activations = 0;

  std::size_t total() const { return weights + activations; }
};

int turns_of(const std::vector<Placer>& placers) {
  int turns = 1;
  for (const Placer& placer : placers) turns = std::max(turns, placer.component().turn + 1);
  return turns;
}

StageNeed largest_need(const std::vector<Placer>& placers, const ActivationBytes& activations) {
  const std::array<std::pair<Stage, std::size_t>, 3> stages = {
      {{Stage::kTextEncoding, activations.text_encoding},
       {Stage::kDenoising, activations.denoising},
       {Stage::kDecoding, activations.decoding}}};
  const int turns = turns_of(placers);
  StageNeed largest;
  for (const auto& [stage, work] : stages) {
    for (int turn = 0; turn < turns; ++turn) {
      StageNeed need{.stage = stage, .weights = 0, .activations = work};
      for (const Placer& placer : placers) need.weights += placer.device_bytes(stage, turn);
      if (need.total() > largest.total()) largest = need;
    }
  }
  return largest;
}

void apply_options(std::vector<Placer>& placers, const OffloadOptions& options) {
  if (options.dit_cpu_offload && options.dit_layerwise_offload) {
    throw Error(ErrorCode::kInvalidArgument,
                "--dit-cpu-offload and --dit-layerwise-offload exclude each other");
  }
  for (Placer& placer : placers) {
    const PlannedComponent& component = placer.component();
    if (component.denoiser && options.dit_cpu_offload) placer.offload_whole(true);
    const bool streams =
        (component.denoiser && options.dit_layerwise_offload) ||
        (component.stage == Stage::kTextEncoding && options.text_encoder_cpu_offload);
    if (!streams) continue;
    for (std::size_t i = 0; i < placer.sequences(); ++i) {
      placer.stream(i, component.bytes.sequences[i].layers.size());
    }
  }
}

/// Denoisers that take turns are there for their turn only, if that suffices.
void take_turns(std::vector<Placer>& placers, const OffloadOptions& options,
                const std::function<bool()>& fits) {
  const bool decided = options.dit_cpu_offload || options.dit_layerwise_offload;
  if (decided || turns_of(placers) == 1 || fits()) return;
  const auto offload = [&](bool whole) {
    for (Placer& placer : placers) {
      if (placer.component().denoiser) placer.offload_whole(whole);
    }
  };
  offload(true);
  if (!fits()) offload(false);
}

/// Streams layers until `fits`: those used in every step, or the others. Each layer that streams in
/// every step costs; of the others all stream or none.
void stream_until(std::vector<Placer>& placers, bool every_step,
                  const std::function<bool()>& fits) {
  for (Placer& placer : placers) {
    if (placer.whole()) continue;
    for (std::size_t i = 0; i < placer.sequences(); ++i) {
      const SequenceBytes& sequence = placer.component().bytes.sequences[i];
      if ((sequence.name == placer.component().every_step) != every_step) continue;
      const std::size_t layers = sequence.layers.size();
      for (std::size_t count = every_step ? 1 : layers; count <= layers && !fits(); ++count) {
        placer.stream(i, std::max(count, placer.streamed(i)));
      }
    }
  }
}

/// What else makes the plan fit.
std::string remedy(const std::vector<Placer>& placers, const ActivationBytes& activations,
                   std::size_t available) {
  ActivationBytes tiled = activations;
  tiled.decoding = activations.tiled_decoding.value_or(activations.decoding);
  const std::size_t needed = largest_need(placers, tiled).total();
  if (needed <= available) return fmt::format("with --vae-tiling {:.0f} MiB do", mib(needed));
  return "fewer pixels take less";
}

[[noreturn]] void refuse(const std::vector<Placer>& placers, const ActivationBytes& activations,
                         std::size_t available) {
  const StageNeed need = largest_need(placers, activations);
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("not enough device memory: with every layer streamed {} needs {:.0f} MiB "
                          "({:.0f} of weights and room for layers, {:.0f} to compute), {:.0f} are "
                          "available: {:.0f} MiB are missing; {}",
                          stage_name(need.stage), mib(need.total()), mib(need.weights),
                          mib(need.activations), mib(available), mib(need.total() - available),
                          remedy(placers, activations, available)));
}

std::string streamed_text(const ComponentPlacement& placed) {
  std::vector<std::string> parts;
  for (const auto& [sequence, layers] : placed.streamed) {
    parts.push_back(fmt::format("{} {}", layers, sequence));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

std::size_t SequenceBytes::total() const {
  return std::accumulate(layers.begin(), layers.end(), std::size_t{0});
}

ComponentBytes component_bytes(std::string name, const nn::TensorTable& table,
                               const quant::WeightSource& source, DType dtype,
                               const quant::WeightPolicy& policy) {
  ComponentBytes bytes{.name = std::move(name), .fixed = 0, .sequences = {}};
  for (const nn::TensorSpec& spec : table.specs()) {
    bytes.stored += stored_bytes(spec, source);
    const std::size_t tensor = resident_bytes(spec, source, dtype, policy);
    if (spec.sequence.empty()) {
      bytes.fixed += tensor;
      continue;
    }
    auto found = std::ranges::find(bytes.sequences, spec.sequence, &SequenceBytes::name);
    if (found == bytes.sequences.end()) {
      bytes.sequences.push_back({.name = spec.sequence, .layers = {}});
      found = std::prev(bytes.sequences.end());
    }
    const auto layer = static_cast<std::size_t>(spec.layer);
    if (found->layers.size() <= layer) found->layers.resize(layer + 1);
    found->layers[layer] += tensor;
  }
  return bytes;
}

const ComponentPlacement& MemoryPlan::of(std::string_view component) const {
  const auto found = std::ranges::find(components, component, &ComponentPlacement::name);
  if (found == components.end()) {
    throw Error(ErrorCode::kInternal, fmt::format("no component '{}' in the plan", component));
  }
  return *found;
}

bool MemoryPlan::offloads() const {
  return std::ranges::any_of(components, [](const auto& placed) { return placed.host_bytes > 0; });
}

std::size_t MemoryPlan::stored_bytes() const {
  std::size_t bytes = 0;
  for (const ComponentPlacement& placed : components) bytes += placed.stored_bytes;
  return bytes;
}

MemoryPlan plan_memory(const std::vector<PlannedComponent>& components,
                       const ActivationBytes& activations, std::optional<std::size_t> available,
                       const OffloadOptions& options) {
  std::vector<Placer> placers(components.begin(), components.end());
  if (available) {
    apply_options(placers, options);
    const auto fits = [&] { return largest_need(placers, activations).total() <= *available; };
    stream_until(placers, /*every_step=*/false, fits);
    take_turns(placers, options, fits);
    stream_until(placers, /*every_step=*/true, fits);
    if (!fits()) refuse(placers, activations, *available);
  }
  const StageNeed need = largest_need(placers, activations);
  MemoryPlan plan{.components = {},
                  .activation_bytes = need.activations,
                  .peak_bytes = need.total(),
                  .available_bytes = available};
  for (const Placer& placer : placers) plan.components.push_back(placer.placement());
  return plan;
}

std::string to_string(const MemoryPlan& plan) {
  if (!plan.offloads()) return {};
  std::string text = fmt::format("device memory: {:.1f} GiB planned, {:.1f} GiB available\n",
                                 gib(plan.peak_bytes), gib(plan.available_bytes.value_or(0)));
  for (const ComponentPlacement& placed : plan.components) {
    text += fmt::format("  {:<16}{:>6.1f} GiB", placed.name, gib(placed.device_bytes));
    if (placed.whole) text += " while it works, offloaded to host memory";
    if (!placed.streamed.empty()) {
      text += fmt::format("; streamed: {} ({:.1f} GiB in host memory)", streamed_text(placed),
                          gib(placed.host_bytes));
    }
    text += '\n';
  }
  text += fmt::format("  {:<16}{:>6.1f} GiB\n", "to compute", gib(plan.activation_bytes));
  return text;
}

std::string summarize(const MemoryPlan& plan) {
  std::vector<std::string> parts;
  for (const ComponentPlacement& placed : plan.components) {
    if (placed.whole) parts.push_back(fmt::format("{} offloaded", placed.name));
    if (!placed.streamed.empty()) {
      parts.push_back(fmt::format("{} of {} streamed", streamed_text(placed), placed.name));
    }
  }
  return parts.empty() ? "resident" : fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace dither
