#pragma once

#include <filesystem>
#include <vector>

#include "media/image.h"
#include "pipelines/png_parameters.h"

namespace dither::cli {

/// Writes a PNG that carries its parameters, for `inspect` and `generate --from`.
void write_picture(const std::filesystem::path& path, const Image& image,
                   const PictureParameters& parameters);

/// Writes a PNG without parameters: a sheet of several pictures.
void write_sheet(const std::filesystem::path& path, const Image& image);

/// Writes a video in the format of the path's ending, or a folder of PNGs where it has none. Throws
/// as create_video_writer() and VideoWriter do.
void write_video(const std::filesystem::path& path, const std::vector<Image>& frames, int fps);

/// The parameters that a PNG carries. Throws kNotFound, kDataLoss (no PNG, damaged), kUnsupported
/// (made by another program).
PictureParameters read_picture_parameters(const std::filesystem::path& path);

}  // namespace dither::cli
