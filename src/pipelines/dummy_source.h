#pragma once

#include <memory>

#include "io/dummy_weights.h"
#include "nn/tensor_table.h"
#include "pipelines/pipeline.h"

namespace dither {

/// Made-up weights for every tensor of a model's table. Throws as DummyWeights does.
std::unique_ptr<quant::WeightSource> make_dummy_source(const nn::TensorTable& table,
                                                       DummyNumbers& numbers,
                                                       DummyWeights::Options options);

/// A checkpoint without tensors: what a table is made from that follows a checkpoint's spelling,
/// when there is none.
const TensorSource& no_tensors();

/// Throws kInvalidArgument when options for made-up weights and for files come together.
void check_load_format(const WeightOptions& options);

}  // namespace dither
