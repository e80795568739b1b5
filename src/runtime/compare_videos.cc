#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "media/video.h"
#include "runtime/compare.h"

namespace dither {
namespace {

std::vector<std::pair<std::string, std::string>> describe(const std::filesystem::path& path,
                                                          const VideoInfo& info) {
  return {{"video", path.string()},
          {"size", fmt::format("{}x{}", info.width, info.height)},
          {"frames", fmt::format("{}", info.frames)},
          {"fps", info.fps > 0 ? fmt::format("{:.6g}", info.fps) : "not known"}};
}

}  // namespace

Comparison compare_video_files(const std::filesystem::path& reference,
                               const std::filesystem::path& candidate) {
  const auto r = open_video(reference);
  const auto c = open_video(candidate);
  const VideoInfo& ours = r->info();
  const VideoInfo& theirs = c->info();
  if (ours.frames != theirs.frames || ours.width != theirs.width || ours.height != theirs.height) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("videos differ: {} has {} frames of {}x{}, {} has {} of {}x{}",
                            reference.string(), ours.frames, ours.width, ours.height,
                            candidate.string(), theirs.frames, theirs.width, theirs.height));
  }
  Comparison comparison;
  comparison.reference.options = describe(reference, ours);
  comparison.candidate.options = describe(candidate, theirs);
  const std::vector<ShownFrame> shown = shown_frames(static_cast<std::size_t>(ours.frames));
  FrameSimilarities frames;
  for (std::size_t i = 0; i < static_cast<std::size_t>(ours.frames); ++i) {
    Image left = r->next().value();
    Image right = c->next().value();
    frames.add(left, right);
    if (std::ranges::find(shown, i, &ShownFrame::index) == shown.end()) continue;
    comparison.reference.pictures.push_back(std::move(left));
    comparison.candidate.pictures.push_back(std::move(right));
  }
  comparison.frames = frames.frames();
  comparison.all_frames = frames.all();
  return comparison;
}

}  // namespace dither
