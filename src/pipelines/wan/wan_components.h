#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/model_folder.h"
#include "models/text/t5_encoder.h"
#include "models/vae/wan_autoencoder.h"
#include "models/wan/transformer.h"
#include "ops/backend.h"
#include "pipelines/attestation.h"
#include "pipelines/component_loading.h"
#include "pipelines/memory_plan.h"
#include "pipelines/pipeline.h"
#include "pipelines/wan/wan_configs.h"
#include "pipelines/wan/wan_picture.h"
#include "quant/weight_source.h"
#include "tokenizers/tokenizer.h"

namespace dither {

/// The weights of a Wan pipeline: opened files, or made up.
struct WanCheckpoints {
  std::unique_ptr<quant::WeightSource> text_encoder;
  std::unique_ptr<quant::WeightSource> transformer;
  std::unique_ptr<quant::WeightSource> transformer_2;  ///< null where there is none
  std::unique_ptr<quant::WeightSource> vae;
};

/// Opens all of them and holds their headers, and what each expert declares about its own
/// quantization, against the tables of names and shapes. Throws kNotFound, and one kDataLoss that
/// lists what is wrong in any of them; no weight has been read then. LoadFormat::kDummy opens
/// nothing. kInvalidArgument as check_load_format().
WanCheckpoints open_wan_checkpoints(const ModelFolder& folder, const WanConfigs& configs,
                                    const PipelineOptions& options = {});

/// A Wan pipeline on a backend, ready to run.
struct WanComponents {
  WanConfigs configs;
  DType dtype;  ///< of text encoder and transformers; the autoencoder's is PipelineOptions::vae
  std::string fingerprint;
  std::unique_ptr<const Tokenizer> tokenizer;
  models::T5Encoder text_encoder;
  std::vector<models::WanTransformer> experts;  ///< one, or for high and low noise
  /// Expert i's weights are turn i, where they come for its steps alone; null: there all the time,
  /// or layer by layer.
  std::unique_ptr<ops::WeightTurns> turns;
  models::WanVaeDecoder vae;
  bool vae_tiling;
  std::unique_ptr<WanPictureEncoder> picture_encoder;  ///< null: the model takes no picture
  std::vector<ComponentAttestation> attestation;       ///< of the components with linear layers
  MemoryPlan memory_plan;
};

/// Headers first, then the plan of the device's memory, then the tokenizer, then weights. `dtype`:
/// kF32 or kBF16; absent: kBF16, in which the published float32 files are meant to run. With
/// LoadFormat::kDummy, make_byte_t5_tokenizer() stands in for a tokenizer whose folder is missing.
/// Throws as open_wan_checkpoints(), load_wan_configs(), load_checked_tokenizer() and
/// choose_dtype() do and, with strict_precision, kUnsupported for fallbacks that nobody declares.
WanComponents load_wan_components(const ModelFolder& folder, ops::Backend& backend,
                                  std::optional<DType> dtype, const PipelineOptions& options = {});

}  // namespace dither
