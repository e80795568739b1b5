#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dither {

/// The directory of a ZIP file (PKWARE APPNOTE 6.3.10) whose members are all stored uncompressed,
/// which is what torch.save writes: members are views of the mapped bytes. zip64 is understood.
/// Sizes come from the central directory, since torch leaves them out of the local headers.
///
/// Refused with kDataLoss: compressed, encrypted or patched members, folders, several disks, an
/// archive comment, names equal but for the case (torch looks them up without regard to it), names
/// that are not UTF-8 or with control characters, a backslash, "..", or a leading '/', members that
/// overlap each other or the directory, more than 200,000 members, a directory that does not end
/// where the end records begin, a local header that contradicts the directory.
class ZipArchive {
 public:
  struct Member {
    std::string name;
    std::span<const std::byte> bytes;
    std::uint32_t crc32 = 0;
  };

  /// `bytes` outlive the archive; `path` is for messages.
  ZipArchive(std::span<const std::byte> bytes, std::filesystem::path path);

  const std::vector<Member>& members() const { return members_; }
  /// Null when there is none of that name.
  const Member* find(std::string_view name) const;

 private:
  struct Directory;

  [[noreturn]] void fail(const std::string& what) const;
  template <typename T>
  T load(std::uint64_t offset) const;
  Directory find_directory() const;
  void read_members(const Directory& directory);
  void check_names();
  void check_overlaps(const Directory& directory) const;

  std::span<const std::byte> bytes_;
  std::filesystem::path path_;
  std::vector<Member> members_;
  std::vector<std::uint64_t> local_offsets_;
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace dither
