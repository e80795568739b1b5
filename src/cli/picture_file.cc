#include "cli/picture_file.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"
#include "media/png.h"
#include "media/video.h"

namespace dither::cli {
namespace {

PngText text_of(const PictureParameters& parameters) {
  return {{std::string(kDescriptionKey), describe(parameters)},
          {std::string(kParametersKey), to_json(parameters)}};
}

}  // namespace

void write_picture(const std::filesystem::path& path, const Image& image,
                   const PictureParameters& parameters) {
  write_png(path, image, text_of(parameters));
}

void write_sheet(const std::filesystem::path& path, const Image& image) { write_png(path, image); }

void write_video(const std::filesystem::path& path, const std::vector<Image>& frames, int fps,
                 const std::optional<PictureParameters>& parameters) {
  const auto writer =
      create_video_writer(path, {.width = frames.front().width,
                                 .height = frames.front().height,
                                 .fps = fps,
                                 .text = parameters ? text_of(*parameters) : PngText()});
  for (const Image& frame : frames) writer->add(frame);
  writer->finish();
}

PictureParameters read_picture_parameters(const std::filesystem::path& path) {
  const PngText text = is_video(path) ? open_video(path)->info().text : read_png_text(path);
  for (const auto& [keyword, content] : text) {
    if (keyword == kParametersKey) return parse_picture_parameters(content, path.string());
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: carries no parameters; was it drawn by dither, and not as a grid?",
                          path.string()));
}

}  // namespace dither::cli
