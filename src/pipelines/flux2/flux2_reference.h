#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "io/model_folder.h"
#include "media/image.h"
#include "pipelines/pipeline.h"

/// Reference pictures on their way to the autoencoder.
namespace dither {

/// Throws kInvalidArgument, naming the picture: more than 16, a side below 64 pixels, more than
/// eight times as wide as high or the other way round. The last two are diffusers' bounds.
void check_references(const std::vector<ReferenceImage>& references);

/// The most pixels that each of `count` reference pictures keeps. Sources: diffusers'
/// Flux2Pipeline; encode_image_refs() of Black Forest Labs' flux2.
std::int64_t reference_area(ReferenceLimit limit, std::size_t count);

/// How reference pictures become what is encoded.
struct ReferencePreparation {
  int multiple = 16;            ///< of the sides
  std::int64_t area = 1 << 20;  ///< the most pixels: reference_area()

  /// Shrunk to the area where it has more, the ratio kept but for rounding down; then cut to
  /// multiples.
  ImageSize size(ImageSize given) const;
  /// The picture in that size: Lanczos where it shrinks, the middle where it is cut. Bit for bit
  /// what diffusers' Flux2ImageProcessor does with Pillow; Black Forest Labs' code does the same.
  Image operator()(const Image& image) const;
};

/// What a request of this extent asks for; `multiple`: pixels of a token.
ReferencePreparation reference_preparation(const RequestExtent& extent, int multiple);

}  // namespace dither
