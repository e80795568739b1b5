#include "cli/output_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/atomic_file.h"
#include "base/atomic_folder.h"
#include "base/error.h"
#include "media/video.h"

namespace dither::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kDefaultFolder = "out";

/// The endings that a kind of output may have; the first is the one that is added.
std::span<const char* const> endings(OutputKind kind) {
  static constexpr std::array kPicture = {".png", ".PNG"};
  static constexpr std::array kVideo = {".mp4", ".webp"};
  if (kind == OutputKind::kPicture) return kPicture;
  return kVideo;
}

/// The name as it was given, or with an ending when it has none.
fs::path with_ending(const std::string& option, fs::path path, OutputKind kind) {
  if (!path.has_filename() || path.filename() == "." || path.filename() == "..") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: '{}' is not a file name", option, path.string()));
  }
  const auto known = endings(kind);
  if (path.extension().empty()) path += known.front();
  if (std::ranges::find(known, path.extension().string()) == known.end()) {
    throw Error(ErrorCode::kInvalidArgument,
                kind == OutputKind::kPicture
                    ? fmt::format("{}: '{}' must end in .png; Dither writes PNG only", option,
                                  path.string())
                    : fmt::format("{}: '{}' must end in .mp4 or .webp, or in / for a folder of "
                                  "frames: this model makes videos",
                                  option, path.string()));
  }
  return path;
}

/// "frames/": a folder is asked for, whose own name is there.
bool names_folder(const fs::path& path) {
  const fs::path name = path.parent_path().filename();
  return !path.has_filename() && !name.empty() && name != "." && name != "..";
}

fs::path with_suffix(const fs::path& path, const std::string& suffix) {
  return path.parent_path() / (path.stem().string() + suffix + path.extension().string());
}

/// The first of name, name-2, name-3, ... that does not exist.
fs::path unused(const fs::path& path) {
  fs::path candidate = path;
  for (int i = 2; fs::exists(candidate); ++i) candidate = with_suffix(path, fmt::format("-{}", i));
  return candidate;
}

}  // namespace

std::string slug(std::string_view prompt) {
  constexpr std::size_t kMaxBytes = 60;
  const auto is_continuation = [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
  };
  std::string text;
  for (const char c : prompt) {
    if (text.size() >= kMaxBytes && !is_continuation(c)) break;
    const bool upper = c >= 'A' && c <= 'Z';
    const bool keep = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || upper ||
                      static_cast<unsigned char>(c) >= 0x80;
    if (keep) {
      text += upper ? static_cast<char>(c - 'A' + 'a') : c;
    } else if (!text.empty() && text.back() != '_') {
      text += '_';
    }
  }
  while (!text.empty() && text.back() == '_') text.pop_back();
  return text.empty() ? "picture" : text;
}

fs::path numbered(const fs::path& path, std::size_t index, std::size_t count) {
  if (count <= 1) return path;
  const std::size_t digits = fmt::format("{}", count - 1).size();
  return with_suffix(path, fmt::format("-{:0{}}", index, digits));
}

namespace {

/// As check_writable(), for a folder that replaces what has its name.
void check_folder_writable(const fs::path& path) {
  check_frame_folder(path);
  const AtomicFolder probe(path);  // never committed
}

}  // namespace

void check_writable(const fs::path& path) {
  if (fs::exists(path) && !fs::is_regular_file(path)) {
    throw Error(ErrorCode::kIo, fmt::format("{}: exists and is no regular file", path.string()));
  }
  AtomicFile probe(path);  // never committed
  probe.write("probe");
}

OutputNames::OutputNames(const Options& options, std::size_t count, OutputKind kind)
    : count_(count), ending_(endings(kind).front()) {
  if (options.output && (options.output_path || options.output_file_name)) {
    throw Error(ErrorCode::kInvalidArgument,
                "--output names folder and file; leave out --output-path and --output-file-name");
  }
  const auto name = [&](const char* option, const fs::path& path) {
    frames_in_folder_ = kind == OutputKind::kVideo && names_folder(path);
    return frames_in_folder_ ? path.parent_path() : with_ending(option, path, kind);
  };
  if (options.output) {
    file_ = name("--output", *options.output);
    folder_ = file_->parent_path();
    return;
  }
  folder_ = options.output_path.value_or(kDefaultFolder);
  create_folder_ = true;
  if (options.output_file_name) {
    file_ = folder_ / name("--output-file-name", *options.output_file_name);
  }
}

OutputNames::~OutputNames() {
  std::error_code ignored;  // a folder that holds something stays
  for (const fs::path& folder : created_) fs::remove(folder, ignored);
}

void OutputNames::prepare() {
  if (create_folder_) {
    created_ = missing_folders(folder_);
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error && !fs::is_directory(folder_)) {
      throw Error(ErrorCode::kIo, fmt::format("{}: cannot create this output folder: {}",
                                              folder_.string(), error.message()));
    }
  }
  frames_in_folder_ ? check_folder_writable(example()) : check_writable(example());
}

fs::path OutputNames::example() const {
  return file_ ? numbered(*file_, 0, count_) : folder_ / fmt::format("picture{}", ending_);
}

fs::path OutputNames::next(std::string_view prompt, std::uint64_t seed) {
  const std::size_t index = next_++;
  if (file_) return numbered(*file_, index, count_);
  return unused(folder_ / fmt::format("{}-seed{}{}", slug(prompt), seed, ending_));
}

fs::path OutputNames::grid(std::string_view first_prompt) const {
  if (file_) return with_suffix(*file_, "-grid");
  return unused(folder_ / fmt::format("{}-grid.png", slug(first_prompt)));
}

}  // namespace dither::cli
