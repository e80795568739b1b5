#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "media/image.h"
#include "pipelines/png_parameters.h"

namespace dither::cli {

/// Writes a PNG that carries its parameters, for `inspect` and `generate --from`.
void write_picture(const std::filesystem::path& path, const Image& image,
                   const PictureParameters& parameters);

/// Writes a PNG without parameters: a sheet of several pictures.
void write_sheet(const std::filesystem::path& path, const Image& image);

/// Writes a video in the format of the path's ending, or a folder of PNGs where it has none, with
/// the same parameters or none. Throws as create_video_writer() and VideoWriter do.
void write_video(const std::filesystem::path& path, const std::vector<Image>& frames, int fps,
                 const std::optional<PictureParameters>& parameters);

/// The parameters that a PNG or a video carries. Throws kNotFound, kDataLoss (neither, damaged),
/// kUnsupported (made by another program).
PictureParameters read_picture_parameters(const std::filesystem::path& path);

}  // namespace dither::cli
