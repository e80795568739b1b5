#include "pipelines/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"

namespace dither {
namespace {

constexpr std::uint64_t kFnvPrime = 0x100000001B3U;
constexpr std::size_t kSampleBytes = 64;

std::uint64_t fnv1a(std::uint64_t hash, std::string_view bytes) {
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * kFnvPrime;
  return hash;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

void Fingerprint::add(std::string_view text) {
  hash_ = fnv1a(fnv1a(hash_, fmt::format("{}:", text.size())), text);
}

void Fingerprint::add_file(const std::filesystem::path& file) {
  add(file.filename().string());
  add(as_text(MappedFile::open(file)->bytes()));
}

void Fingerprint::add_folder(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  if (failed) {
    throw Error(ErrorCode::kIo, fmt::format("{}: {}", folder.string(), failed.message()));
  }
  std::ranges::sort(files);
  for (const auto& file : files) add_file(file);
}

void Fingerprint::add_tensors(const TensorSource& source) {
  for (const TensorInfo& info : source.tensors()) {
    const Tensor tensor = source.read(info.name);
    const std::span sample(tensor.raw(), std::min(kSampleBytes, tensor.bytes()));
    add(info.name);
    add(fmt::format("{}{}", dtype_name(info.dtype), to_string(info.shape)));
    add(as_text(sample));
  }
}

std::string Fingerprint::hex() const { return fmt::format("{:016x}", hash_); }

}  // namespace dither
