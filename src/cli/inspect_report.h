#pragma once

#include <string>

#include "media/image.h"
#include "media/png.h"
#include "runtime/inspect.h"

namespace dither::cli {

/// What a PNG or a video holds: its size and its texts.
struct PictureSummary {
  std::string path;
  int width = 0;
  int height = 0;
  PngText text;
  int frames = 0;  ///< of a video
  double fps = 0;  ///< 0: not known
};

/// Tables for people. `tensors` adds a line per tensor.
std::string describe(const CheckpointSummary& summary, bool tensors);
std::string describe(const PictureSummary& picture);

/// The same as JSON documents.
std::string to_json(const CheckpointSummary& summary, bool tensors);
std::string to_json(const PictureSummary& picture);

}  // namespace dither::cli
