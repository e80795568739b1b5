#pragma once

#include <vector>

#include "io/model_folder.h"
#include "media/image.h"
#include "pipelines/pipeline.h"
#include "tensor/tensor.h"

/// Reference pictures on their way to the autoencoder.
namespace dither {

/// Throws kInvalidArgument, naming the picture: more than 16, a side below 64 pixels, more than
/// eight times as wide as high or the other way round. The last two are diffusers' bounds.
void check_references(const std::vector<ReferenceImage>& references);

/// The size in which a reference picture is encoded: shrunk to an area of 1024 x 1024 where it has
/// more, then cut to multiples of `multiple`.
ImageSize prepared_reference_size(const Image& image, int multiple);

/// The picture in that size: Lanczos where it shrinks, the middle where it is cut. Bit for bit what
/// diffusers' Flux2ImageProcessor does with Pillow.
Image prepare_reference(const Image& image, int multiple);

/// An RGB image as the autoencoder takes it: 2 x / 255 - 1.  [1, height, width, 3] f32 in host
/// memory.
Tensor to_pixels(const Image& image);

}  // namespace dither
