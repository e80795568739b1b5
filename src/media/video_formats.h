#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "media/video.h"

/// One function a format: what create_video_writer() and open_video() choose from.
namespace dither {

inline constexpr std::string_view kFrameFormat = "frame-{:04}.png";  ///< of a folder of frames

std::unique_ptr<VideoWriter> create_mp4_writer(const std::filesystem::path& path,
                                               const VideoSettings& settings);
std::unique_ptr<VideoWriter> create_webp_writer(const std::filesystem::path& path,
                                                const VideoSettings& settings);
std::unique_ptr<VideoWriter> create_frames_writer(const std::filesystem::path& path,
                                                  const VideoSettings& settings);

/// `file` must outlive the reader.
std::unique_ptr<VideoReader> open_mp4(std::span<const std::byte> file, std::string_view name);
std::unique_ptr<VideoReader> open_webp(std::span<const std::byte> file, std::string_view name);
std::unique_ptr<VideoReader> open_frames(const std::filesystem::path& folder);

}  // namespace dither
