#pragma once

#include <memory>

#include "io/dummy_weights.h"
#include "io/model_folder.h"
#include "nn/tensor_table.h"
#include "pipelines/pipeline.h"

namespace dither {

/// Made-up weights for every tensor of a component's table. Throws as DummyWeights does.
std::unique_ptr<quant::WeightSource> make_dummy_source(
    const ModelFolder& folder, const char* component, const nn::TensorTable& table,
    DummyNumbers& numbers, DummyQuantization quantization = DummyQuantization::kNone);

/// A checkpoint without tensors: what a table is made from that follows a checkpoint's spelling,
/// when there is none.
const TensorSource& no_tensors();

/// Throws kInvalidArgument when options for made-up weights and for files come together.
void check_load_format(const PipelineOptions& options);

}  // namespace dither
