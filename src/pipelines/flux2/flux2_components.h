#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/model_folder.h"
#include "models/flux2/transformer.h"
#include "models/text/causal_lm.h"
#include "models/vae/autoencoder_kl.h"
#include "models/vae/latent_norm.h"
#include "ops/backend.h"
#include "pipelines/attestation.h"
#include "pipelines/component_loading.h"
#include "pipelines/flux2/flux2_configs.h"
#include "pipelines/memory_plan.h"
#include "pipelines/pipeline.h"
#include "quant/weight_source.h"
#include "tokenizers/tokenizer.h"

namespace dither {

/// The weights of a FLUX.2 pipeline: opened files, or made up.
struct Flux2Checkpoints {
  std::unique_ptr<quant::WeightSource> text_encoder;
  std::unique_ptr<quant::WeightSource> transformer;
  std::unique_ptr<quant::WeightSource> vae;
};

/// Opens all three and holds their headers, and what is declared about their quantization, against
/// the tables of names and shapes. Throws kNotFound, and one kDataLoss that lists what is wrong in
/// any of them; no weight has been read then. A transformer of FLUX.1 is named as such.
/// LoadFormat::kDummy opens nothing. kInvalidArgument as check_load_format().
Flux2Checkpoints open_flux2_checkpoints(const ModelFolder& folder, const Flux2Configs& configs,
                                        const PipelineOptions& options = {});

/// A FLUX.2 pipeline on a backend, ready to run.
struct Flux2Components {
  Flux2Configs configs;
  DType dtype;      ///< of all but the autoencoder
  DType vae_dtype;  ///< PipelineOptions::vae
  bool vae_tiling;
  std::string fingerprint;
  std::unique_ptr<const Tokenizer> tokenizer;
  models::CausalLmEncoder text_encoder;
  models::Flux2Transformer transformer;
  /// The transformer's, where they come for the denoising alone; null: there all the time, or
  /// layer by layer.
  std::unique_ptr<ops::WeightTurns> whole_transformer;
  models::AutoencoderKlDecoder vae;
  models::AutoencoderKlEncoder vae_encoder;       ///< for reference pictures
  models::LatentNorm latent_norm;                 ///< in scaling_dtype()
  std::vector<ComponentAttestation> attestation;  ///< of the components with linear layers
  MemoryPlan memory_plan;

  /// In which latents are scaled on their way from the sampler to the autoencoder, and back.
  DType scaling_dtype() const { return wider(dtype, vae_dtype); }
};

/// Headers first, then the plan of the device's memory, then the tokenizer, then weights. `dtype`:
/// kF32 or kBF16; absent: native_dtype(). With LoadFormat::kDummy, make_byte_chat_tokenizer()
/// stands in for a tokenizer whose folder is missing. Throws as open_flux2_checkpoints(),
/// load_flux2_configs(), load_checked_tokenizer() and choose_dtype() do and, with strict_precision,
/// kUnsupported for fallbacks that nobody declares.
Flux2Components load_flux2_components(const ModelFolder& folder, ops::Backend& backend,
                                      std::optional<DType> dtype,
                                      const PipelineOptions& options = {});

}  // namespace dither
