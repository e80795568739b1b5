#include "cli/picture_file.h"

#include <fmt/format.h>

#include <string>

#include "base/atomic_folder.h"
#include "base/error.h"
#include "media/png.h"

namespace dither::cli {

void write_picture(const std::filesystem::path& path, const Image& image,
                   const PictureParameters& parameters) {
  write_png(path, image,
            {{std::string(kDescriptionKey), describe(parameters)},
             {std::string(kParametersKey), to_json(parameters)}});
}

void write_sheet(const std::filesystem::path& path, const Image& image) { write_png(path, image); }

void write_video(const std::filesystem::path& path, const std::vector<Image>& frames, int /*fps*/) {
  if (path.has_extension()) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: only folders of frames are written", path.string()));
  }
  AtomicFolder folder(path);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    write_png(folder.temporary() / fmt::format("frame-{:04}.png", i), frames[i]);
  }
  folder.commit(AtomicFolder::Existing::kReplace);
}

PictureParameters read_picture_parameters(const std::filesystem::path& path) {
  for (const auto& [keyword, text] : read_png_text(path)) {
    if (keyword == kParametersKey) return parse_picture_parameters(text, path.string());
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: carries no parameters; was it drawn by dither, and not as a grid?",
                          path.string()));
}

}  // namespace dither::cli
