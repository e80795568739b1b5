#include "cli/output_names.h"

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/atomic_folder.h"
#include "base/error.h"

namespace dither::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kDefaultFolder = "out";

/// The name as it was given, or with ".png" when it has no ending.
fs::path with_png_ending(const std::string& option, fs::path path) {
  if (!path.has_filename() || path.filename() == "." || path.filename() == "..") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: '{}' is not a file name", option, path.string()));
  }
  if (path.extension().empty()) path += ".png";
  if (path.extension() != ".png" && path.extension() != ".PNG") {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: '{}' must end in .png; Dither writes PNG only", option, path.string()));
  }
  return path;
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

void check_writable(const fs::path& path) {
  if (fs::exists(path) && !fs::is_regular_file(path)) {
    throw Error(ErrorCode::kIo, fmt::format("{}: exists and is no regular file", path.string()));
  }
  AtomicFile probe(path);  // never committed
  probe.write("probe");
}

OutputNames::OutputNames(const Options& options, std::size_t pictures) : pictures_(pictures) {
  if (options.output && (options.output_path || options.output_file_name)) {
    throw Error(ErrorCode::kInvalidArgument,
                "--output names folder and file; leave out --output-path and --output-file-name");
  }
  if (options.output) {
    file_ = with_png_ending("--output", *options.output);
    folder_ = file_->parent_path();
    return;
  }
  folder_ = options.output_path.value_or(kDefaultFolder);
  create_folder_ = true;
  if (options.output_file_name) {
    file_ = folder_ / with_png_ending("--output-file-name", *options.output_file_name);
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
  check_writable(file_ ? numbered(*file_, 0, pictures_) : folder_ / "picture.png");
}

fs::path OutputNames::next(std::string_view prompt, std::uint64_t seed) {
  const std::size_t index = next_++;
  if (file_) return numbered(*file_, index, pictures_);
  return unused(folder_ / fmt::format("{}-seed{}.png", slug(prompt), seed));
}

fs::path OutputNames::grid(std::string_view first_prompt) const {
  if (file_) return with_suffix(*file_, "-grid");
  return unused(folder_ / fmt::format("{}-grid.png", slug(first_prompt)));
}

}  // namespace dither::cli
