#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace dither::schedulers {

/// Every F32 or BF16 tensor of a trusted golden file, flattened, as float. For tests of this room
/// only: rooms below io cannot use its reader.
inline std::map<std::string, std::vector<float>> read_golden_tensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const std::string header = bytes.substr(sizeof(header_bytes), header_bytes);
  const char* const data = bytes.data() + sizeof(header_bytes) + header_bytes;

  static const std::regex entry(
      R"re("([^"]+)":\{"dtype":"(F32|BF16)","shape":\[[0-9,]*\],"data_offsets":\[(\d+),(\d+)\]\})re");
  std::map<std::string, std::vector<float>> tensors;
  for (auto it = std::sregex_iterator(header.begin(), header.end(), entry);
       it != std::sregex_iterator(); ++it) {
    const std::smatch& match = *it;
    const size_t begin = std::stoull(match[3]);
    const size_t end = std::stoull(match[4]);
    const bool bf16 = match[2] == "BF16";
    const size_t element_bytes = bf16 ? 2 : 4;
    std::vector<float> values((end - begin) / element_bytes);
    for (size_t i = 0; i < values.size(); ++i) {
      // Little-endian: a bfloat16 is the upper half of the float's four bytes.
      char* const target = reinterpret_cast<char*>(&values[i]) + (4 - element_bytes);
      std::memcpy(target, data + begin + i * element_bytes, element_bytes);
    }
    tensors.emplace(match[1], std::move(values));
  }
  return tensors;
}

}  // namespace dither::schedulers
