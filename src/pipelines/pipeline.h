#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/process_memory.h"
#include "io/component_weights.h"
#include "io/dummy_weights.h"
#include "io/model_folder.h"
#include "media/image.h"
#include "ops/types.h"
#include "pipelines/attestation.h"
#include "pipelines/memory_plan.h"
#include "quant/weight_policy.h"
#include "tensor/tensor.h"

namespace dither {

/// Which torch generator's initial noise to reproduce; see schedulers/torch_noise.h.
enum class NoiseSource : std::uint8_t {
  kTorchCpu,        ///< torch.Generator("cpu"), current torch
  kTorchCpuLegacy,  ///< the same with the bfloat16 rule of older torch
  kTorchCuda,       ///< torch.Generator("cuda") on an H200 (132 multiprocessors)
};

/// What messages and pictures call a model: "emoji-flux" for "models/emoji-flux/".
std::string model_name(const std::filesystem::path& folder);

/// "torch-cpu", "torch-cpu-legacy", "torch-cuda": the name in options and in pictures.
std::string_view noise_source_name(NoiseSource source);
/// The inverse of noise_source_name; nothing for an unknown name.
std::optional<NoiseSource> parse_noise_source(std::string_view name);

/// A picture to follow or to edit, or that a video begins with.
struct ReferenceImage {
  std::string path = {};  ///< what messages and the result's parameters call it
  Image image = {};       ///< RGB
};

/// To how many pixels reference pictures are shrunk that have more.
enum class ReferenceLimit : std::uint8_t {
  kDiffusers,  ///< 1024 x 1024
  kBfl,        ///< Black Forest Labs' own code: 2024 x 2024 where there is one, else 1024 x 1024
};

/// "diffusers", "bfl": the name in options and in pictures.
std::string_view reference_limit_name(ReferenceLimit limit);
/// The inverse of reference_limit_name; nothing for an unknown name.
std::optional<ReferenceLimit> parse_reference_limit(std::string_view name);

/// What to draw, or to film. Fields left out take the model's own defaults (Pipeline::resolve).
/// Every member has an initializer, so that {.prompt = "..."} compiles without warnings.
struct GenerateRequest {
  std::string prompt = {};
  std::optional<std::string> negative_prompt = {};
  std::optional<int> width = {};
  std::optional<int> height = {};
  std::optional<int> num_inference_steps = {};
  std::optional<double> guidance_scale = {};  ///< embedded guidance; of Wan classifier-free
  std::optional<double> true_cfg_scale = {};  ///< classifier-free guidance against negative_prompt
  std::optional<int> max_sequence_length = {};
  // Of models that make videos; others refuse them by name.
  std::optional<int> num_frames = {};           ///< 4 k + 1
  std::optional<int> fps = {};                  ///< frames a second
  std::optional<double> guidance_scale_2 = {};  ///< in the steps of the low-noise expert
  std::optional<double> flow_shift = {};        ///< of the noise levels
  std::uint64_t seed = 0;
  int num_outputs_per_prompt = 1;  ///< output i uses seed + i
  NoiseSource noise = NoiseSource::kTorchCpu;
  std::vector<ReferenceImage> references = {};  ///< for models that take any
  ReferenceLimit reference_limit = ReferenceLimit::kDiffusers;
  bool record_trajectory = false;
};

/// What a video has beyond a picture.
struct VideoParameters {
  int num_frames = 0;
  int fps = 0;
  std::optional<double> guidance_scale_2 = {};  ///< of the second transformer, where there is one
  double flow_shift = 0;

  bool operator==(const VideoParameters&) const = default;
};

/// The request with every field decided: what is written into the picture.
struct ResolvedRequest {
  std::string prompt;
  std::string negative_prompt;  ///< used when true_cfg_scale is not 1, in a video when guided
  int width = 0;
  int height = 0;
  int num_inference_steps = 0;
  double guidance_scale = 0;
  double true_cfg_scale = 1;  ///< 1: no classifier-free guidance
  int max_sequence_length = 0;
  std::vector<std::string> image_paths = {};  ///< of the reference pictures
  ReferenceLimit reference_limit = ReferenceLimit::kDiffusers;
  std::optional<VideoParameters> video = {};  ///< absent: a picture

  bool operator==(const ResolvedRequest&) const = default;
};

/// Latents on their way, for comparison between precisions and implementations. Host tensors, f32.
struct Trajectory {
  Tensor initial_latents;                                  ///< [1, L, C] packed
  Tensor latents;                                          ///< [1, steps, L, C] after each step
  Tensor timesteps;                                        ///< [steps]
  Tensor sigmas;                                           ///< [steps + 1]
  std::vector<std::pair<std::string, Tensor>> embeddings;  ///< "prompt_embeds", "pooled_..."
};

/// A picture, or the frames of a video.
struct GeneratedOutput {
  std::vector<Image> frames;  ///< of a picture: one
  std::uint64_t seed = 0;
  std::optional<Trajectory> trajectory;

  /// The picture, or a video's first frame.
  const Image& image() const { return frames.front(); }
};

/// A pipeline stage, how long it took and the most device memory that was live meanwhile; names as
/// in SGLang's performance dump.
struct StageTime {
  std::string name;
  double duration_ms = 0;
  std::uint64_t peak_memory_bytes = 0;
};

struct GenerateResult {
  ResolvedRequest request;
  std::vector<GeneratedOutput> outputs;
  std::vector<StageTime> stages;
  std::vector<double> denoise_steps_ms;  ///< over all outputs, in order
  double total_duration_ms = 0;
  ProcessMemory memory_before;  ///< when generate() was entered
  ProcessMemory memory_after;
  std::vector<std::string> warnings;
};

/// Where the numbers of a pipeline's weights come from.
enum class LoadFormat : std::uint8_t {
  kAuto,   ///< the files of its folders
  kDummy,  ///< nowhere: made up (io/dummy_weights.h), only the configs are read
};

/// "auto", "dummy": the name in options, reports and pictures.
std::string_view load_format_name(LoadFormat format);
/// The inverse of load_format_name; nothing for an unknown name.
std::optional<LoadFormat> parse_load_format(std::string_view name);

/// In which steps the attention of a denoising model multiplies in FP8.
struct AttentionSchedule {
  bool fp8 = false;
  int first = 0;  ///< this many steps at the start keep the activations' dtype
  int last = 0;   ///< and this many at the end

  ops::AttentionPrecision at(std::int64_t step, std::int64_t steps) const {
    return fp8 && step >= first && step < steps - last ? ops::AttentionPrecision::kE4m3
                                                       : ops::AttentionPrecision::kActivations;
  }
  bool operator==(const AttentionSchedule&) const = default;
};

/// "bf16", "fp8", or "schedule:first=2,last=1" for fp8 but in those steps.
std::string attention_schedule_name(const AttentionSchedule& schedule);
/// The inverse; either of first and last may be left out. Nothing for other words.
std::optional<AttentionSchedule> parse_attention_schedule(std::string_view text);

/// What the autoencoder's weights and activations are.
enum class VaePrecision : std::uint8_t {
  kAuto,  ///< as the pipeline's other activations
  kBF16,
  kF32,
};

/// "auto", "bf16", "f32": the name in options and pictures.
std::string_view vae_precision_name(VaePrecision precision);
/// The inverse of vae_precision_name; nothing for an unknown name.
std::optional<VaePrecision> parse_vae_precision(std::string_view name);
/// `activations`: the dtype of the pipeline's.
DType vae_dtype(VaePrecision precision, DType activations);

/// How large the picture or video of a request will be, and what it is made after; absent: as the
/// model has it by default.
struct RequestExtent {
  std::optional<int> width = {};   ///< pixels
  std::optional<int> height = {};  ///< pixels
  std::optional<int> num_frames = {};
  std::vector<ImageSize> references = {};  ///< as they are given
  ReferenceLimit reference_limit = ReferenceLimit::kDiffusers;
};
RequestExtent extent_of(const GenerateRequest& request);

/// How a pipeline is made of its model's folders: where its weights come from beside them, how sure
/// of these it must be, as what and where they lie, and in what it computes.
struct PipelineOptions {
  LoadFormat format = LoadFormat::kAuto;
  /// How a dummy transformer is stored, and the second of two; absent: like the first.
  DummyQuantization dummy_quantization = DummyQuantization::kNone;
  std::optional<DummyQuantization> dummy_quantization_2 = {};
  WeightOverrides transformer = {};
  WeightOverrides transformer_2 = {};  ///< of pipelines that have one
  /// A layer that does not run as its checkpoint calls for, and of which the checkpoint does not
  /// say so, is an error.
  bool strict_precision = false;
  AttentionSchedule attention = {};
  OffloadOptions offload = {};
  /// As what quantized weights lie in memory. Not plain_as_fp8, of which the next speaks.
  quant::WeightPolicy policy = {};
  /// The linear weights of the large text encoder become weight-only E4M3.
  bool fp8_text_encoder = false;
  VaePrecision vae = VaePrecision::kAuto;
  /// The autoencoder decodes what is large in overlapping squares (models/vae/tiles.h).
  bool vae_tiling = false;
  /// What the memory plan makes room for.
  RequestExtent planned = {};
};

/// "default", or what is not:
/// "weight-only-fp8=keep,nvfp4-as=fp8,text-encoder-precision=fp8,vae-precision=f32,vae-tiling".
std::string weight_precision_name(const PipelineOptions& options);

/// Told after every denoising step. Return false to stop: generate() throws kCancelled.
struct Progress {
  int image = 0;  ///< 0-based; of videos, too
  int images = 1;
  int step = 0;  ///< 1-based: steps done
  int steps = 0;
  double step_ms = 0;
};
using ProgressCallback = std::function<bool(const Progress&)>;

/// What a pipeline will make of requests, before it is loaded. Throws as Pipeline::resolve().
using RequestResolver = std::function<ResolvedRequest(const GenerateRequest& request)>;

/// A loaded model that turns requests into pictures or videos. One request at a time.
class Pipeline {
 public:
  virtual ~Pipeline() = default;

  /// model_index.json's class: "FluxPipeline".
  virtual std::string_view class_name() const = 0;
  /// Of weights, activations and noise.
  virtual DType dtype() const = 0;
  /// 16 hexadecimal digits that change with the model's configs, tensors and tokenizers; see
  /// pipelines/fingerprint.h.
  virtual std::string_view fingerprint() const = 0;
  /// How every linear layer of every component was stored and is executed.
  virtual std::span<const ComponentAttestation> attestation() const = 0;
  /// Where the weights of the components are.
  virtual const MemoryPlan& memory_plan() const = 0;
  /// Fills in what a request leaves open and checks it. Throws kInvalidArgument naming the option
  /// and the nearest valid values.
  virtual ResolvedRequest resolve(const GenerateRequest& request) const = 0;
  /// Throws what resolve() throws, and kCancelled when `progress` asked to stop.
  virtual GenerateResult generate(const GenerateRequest& request,
                                  const ProgressCallback& progress) = 0;
};

}  // namespace dither
