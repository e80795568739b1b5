#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

/// Runs the fuzz target once over the content of a file. Throws when it cannot be read.
void replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::filesystem::filesystem_error("cannot read", path, std::error_code());
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

/// Feeds a fuzz target every file of the given corpus folders, and the empty input. An input that
/// breaks the target crashes the program, which prints each name before it reads the file.
int main(int argc, char** argv) {
  LLVMFuzzerTestOneInput(nullptr, 0);
  int count = 0;
  try {
    for (int i = 1; i < argc; ++i) {
      std::vector<std::filesystem::path> paths;
      for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
        paths.push_back(entry.path());
      }
      std::ranges::sort(paths);
      for (const auto& path : paths) {
        std::printf("%s\n", path.c_str());
        std::fflush(stdout);
        replay(path);
        ++count;
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "replay: %s\n", error.what());
    return 1;
  }
  std::printf("replayed %d inputs\n", count);
  return count > 0 ? 0 : 1;
}
