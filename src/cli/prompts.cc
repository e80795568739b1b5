#include "cli/prompts.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "base/error.h"

namespace dither::cli {
namespace {

std::vector<std::string> read_lines(std::istream& in) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

std::vector<std::string> read_prompts(const std::string& path, std::string_view option) {
  std::vector<std::string> prompts;
  if (path == "-") {
    prompts = read_lines(std::cin);
  } else {
    std::ifstream file(path);  // not a mapping: a pipe such as <(sort prompts.txt) is welcome
    if (!file || file.peek() == std::ifstream::traits_type::eof()) {
      const int reason = file.is_open() ? (file.bad() ? EISDIR : 0) : errno;
      if (reason != 0) {
        throw Error(reason == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                    fmt::format("{}: {}: {}", option, path, std::strerror(reason)));
      }
    }
    prompts = read_lines(file);
  }
  if (prompts.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: {}: no prompts; write one on each line", option, path));
  }
  return prompts;
}

}  // namespace dither::cli
