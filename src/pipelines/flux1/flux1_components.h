#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/model_folder.h"
#include "models/flux1/transformer.h"
#include "models/text/clip_text.h"
#include "models/text/t5_encoder.h"
#include "models/vae/autoencoder_kl.h"
#include "ops/backend.h"
#include "pipelines/attestation.h"
#include "pipelines/component_loading.h"
#include "pipelines/flux1/flux1_configs.h"
#include "pipelines/memory_plan.h"
#include "pipelines/pipeline.h"
#include "quant/weight_source.h"
#include "tokenizers/tokenizer.h"

namespace dither {

/// The weights of a FluxPipeline: opened files, or made up.
struct Flux1Checkpoints {
  std::unique_ptr<quant::WeightSource> text_encoder;
  std::unique_ptr<quant::WeightSource> text_encoder_2;
  std::unique_ptr<quant::WeightSource> transformer;
  std::unique_ptr<quant::WeightSource> vae;
};

/// Opens all four and holds their headers, and what is declared about their quantization, against
/// the tables of names and shapes. Throws kNotFound, and one kDataLoss that lists what is wrong in
/// any of them; no weight has been read then. LoadFormat::kDummy opens nothing. kInvalidArgument as
/// check_load_format().
Flux1Checkpoints open_flux1_checkpoints(const ModelFolder& folder, const Flux1Configs& configs,
                                        const PipelineOptions& options = {});

/// A FluxPipeline on a backend, ready to run.
struct Flux1Components {
  Flux1Configs configs;
  DType dtype;      ///< of all but the autoencoder
  DType vae_dtype;  ///< PipelineOptions::vae
  bool vae_tiling;
  std::string fingerprint;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const Tokenizer> tokenizer_2;
  models::ClipTextEncoder text_encoder;
  models::T5Encoder text_encoder_2;
  models::Flux1Transformer transformer;
  /// The transformer's, where they come for the denoising alone; null: there all the time, or
  /// layer by layer.
  std::unique_ptr<ops::WeightTurns> whole_transformer;
  models::AutoencoderKlDecoder vae;
  std::vector<ComponentAttestation> attestation;  ///< of the components with linear layers
  MemoryPlan memory_plan;
};

/// Headers first, then the plan of the device's memory, then tokenizers, then weights. `dtype`:
/// kF32 or kBF16; absent: native_dtype(). With LoadFormat::kDummy, make_byte_tokenizer() stands in
/// for tokenizers whose folder is missing. Throws as open_flux1_checkpoints(), load_flux1_configs()
/// and load_tokenizer() do, kUnsupported for another dtype and, with strict_precision, for
/// fallbacks that nobody declares, kDataLoss when a tokenizer makes ids that its encoder has no row
/// for.
Flux1Components load_flux1_components(const ModelFolder& folder, ops::Backend& backend,
                                      std::optional<DType> dtype,
                                      const PipelineOptions& options = {});

}  // namespace dither
