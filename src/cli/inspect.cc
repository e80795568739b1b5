#include "cli/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <string>

#include "cli/inspect_report.h"
#include "cli/options.h"
#include "io/hub_cache.h"
#include "media/video.h"
#include "pipelines/png_parameters.h"

namespace dither::cli {
namespace {

constexpr const char* kNotes = R"(Examples:
  dither inspect models/emoji-flux                        a model: components, sizes, dtypes
  dither inspect models/emoji-flux/transformer            a component: its config, and the precision of its layers
  dither inspect transformer.safetensors --tensors        every tensor's dtype and shape
  dither inspect out/apple.png                            how a picture was drawn, or a video
  dither inspect out/apple.png --json | jq .parameters

Reads headers only: large checkpoints are quick.)";

bool is_png(const std::string& path) {
  constexpr std::array<char, 8> kSignature = {'\x89', 'P', 'N', 'G', '\r', '\n', '\x1a', '\n'};
  std::array<char, 8> start{};
  std::ifstream(path, std::ios::binary).read(start.data(), start.size());
  return start == kSignature;
}

PictureSummary read_picture(const std::string& path) {
  const Image image = read_png(path);
  return {.path = path, .width = image.width, .height = image.height, .text = read_png_text(path)};
}

PictureSummary read_video(const std::string& path) {
  const VideoInfo info = open_video(path)->info();
  return {.path = path,
          .width = info.width,
          .height = info.height,
          .text = info.text,
          .frames = info.frames,
          .fps = info.fps};
}

PictureSummary inspect_picture(const std::string& path) {
  PictureSummary picture = is_png(path) ? read_picture(path) : read_video(path);
  for (const auto& [keyword, content] : picture.text) {
    if (keyword == kParametersKey) parse_picture_parameters(content, path);  // throws if damaged
  }
  return picture;
}

}  // namespace

void add_inspect(CLI::App& app) {
  struct Options {
    std::string path;
    bool json = false;
    bool tensors = false;
  };
  CLI::App* const command =
      app.add_subcommand("inspect", "Show what a model, checkpoint or picture holds");
  const auto options = std::make_shared<Options>();
  command->add_option("path", options->path, "Model or component folder, checkpoint, PNG or video")
      ->required()
      ->type_name("PATH");
  add_switch(*command, "--json", options->json, "Print a JSON document");
  add_switch(*command, "--tensors", options->tensors, "List every tensor");
  command->footer(kNotes);
  command->callback([options] {
    if (is_png(options->path) || is_video(options->path)) {
      const PictureSummary picture = inspect_picture(options->path);
      fmt::print("{}", options->json ? to_json(picture) : describe(picture));
      return;
    }
    const CheckpointSummary summary = inspect_checkpoint(resolve_model_path(options->path));
    fmt::print("{}", options->json ? to_json(summary, options->tensors)
                                   : describe(summary, options->tensors));
  });
}

}  // namespace dither::cli
