#include "io/zip_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_set>

#include "base/checked.h"
#include "base/error.h"
#include "io/untrusted_name.h"
#include "io/utf8.h"

namespace dither {
namespace {

constexpr std::uint32_t kLocalSignature = 0x04034B50;
constexpr std::uint32_t kCentralSignature = 0x02014B50;
constexpr std::uint32_t kEndSignature = 0x06054B50;
constexpr std::uint32_t kEnd64Signature = 0x06064B50;
constexpr std::uint32_t kEnd64LocatorSignature = 0x07064B50;
constexpr std::uint64_t kLocalBytes = 30;
constexpr std::uint64_t kCentralBytes = 46;
constexpr std::uint64_t kEndBytes = 22;
constexpr std::uint64_t kEnd64Bytes = 56;
constexpr std::uint64_t kEnd64LocatorBytes = 20;
constexpr std::uint64_t kMaxMembers = 200'000;
constexpr std::uint32_t kIn64 = 0xFFFFFFFF;   // "look in the zip64 extra field"
constexpr std::uint16_t kEncrypted = 0x2041;  // plain, strong and masked-directory encryption
constexpr std::uint16_t kPatch = 0x0020;      // the member is a patch of another one
constexpr std::uint32_t kDirectory = 0x10;    // MS-DOS attribute; some readers then skip the data
constexpr std::uint16_t kExtra64 = 1;

bool safe_name(std::string_view name) {
  if (name.empty() || name.front() == '/' || !is_utf8(name)) return false;
  const auto unsafe = [](char c) { return (c >= 0 && c < 0x20) || c == 0x7F || c == '\\'; };
  if (std::ranges::any_of(name, unsafe)) return false;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    if (name.substr(begin, end - begin) == "..") return false;
    begin = end + 1;
  }
  return true;
}

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

struct ZipArchive::Directory {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t members = 0;
};

ZipArchive::ZipArchive(std::span<const std::byte> bytes, std::filesystem::path path)
    : bytes_(bytes), path_(std::move(path)) {
  const Directory directory = find_directory();
  read_members(directory);
  check_overlaps(directory);
}

const ZipArchive::Member* ZipArchive::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &members_[found->second];
}

void ZipArchive::fail(const std::string& what) const {
  throw Error(ErrorCode::kDataLoss, fmt::format("{}: {}", path_.string(), what));
}

template <typename T>
T ZipArchive::load(std::uint64_t offset) const {
  if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) {
    fail(fmt::format("zip structure at byte {} lies beyond the file's {}", offset, bytes_.size()));
  }
  T value{};
  std::memcpy(&value, bytes_.data() + offset, sizeof(T));
  return value;
}

ZipArchive::Directory ZipArchive::find_directory() const {
  const std::uint64_t size = bytes_.size();
  if (size < kEndBytes) fail(fmt::format("{} bytes are too few for a zip archive", size));
  // Readers disagree on which end record counts when an archive comment holds another one.
  const std::uint64_t end = size - kEndBytes;
  if (load<std::uint32_t>(end) != kEndSignature || load<std::uint16_t>(end + 20) != 0) {
    fail("no zip end record at the end: truncated, not a zip archive, or with a comment");
  }
  // Two disk numbers, then the members on this disk and on all.
  bool one_disk = load<std::uint32_t>(end + 4) == 0 &&
                  load<std::uint16_t>(end + 8) == load<std::uint16_t>(end + 10);
  Directory directory{load<std::uint32_t>(end + 16), load<std::uint32_t>(end + 12),
                      load<std::uint16_t>(end + 10)};
  std::uint64_t limit = end;
  if (end >= kEnd64LocatorBytes &&
      load<std::uint32_t>(end - kEnd64LocatorBytes) == kEnd64LocatorSignature) {
    const std::uint64_t locator = end - kEnd64LocatorBytes;
    const auto end64 = load<std::uint64_t>(locator + 8);
    // The record states its size without the signature and this field.
    if (end64 > locator || locator - end64 < kEnd64Bytes ||
        load<std::uint32_t>(end64) != kEnd64Signature ||
        load<std::uint64_t>(end64 + 4) != locator - end64 - 12) {
      fail(fmt::format("no zip64 end record at byte {}", end64));
    }
    one_disk = load<std::uint32_t>(locator + 4) == 0 && load<std::uint32_t>(locator + 16) == 1 &&
               load<std::uint64_t>(end64 + 16) == 0 &&
               load<std::uint64_t>(end64 + 24) == load<std::uint64_t>(end64 + 32);
    directory = {load<std::uint64_t>(end64 + 48), load<std::uint64_t>(end64 + 40),
                 load<std::uint64_t>(end64 + 32)};
    limit = end64;
  }
  if (!one_disk) fail("zip archives over several disks are not supported");
  const auto directory_end = checked_add(directory.offset, directory.bytes);
  if (!directory_end || *directory_end != limit) {
    fail(fmt::format("zip directory of {} bytes at {} does not end at byte {}", directory.bytes,
                     directory.offset, limit));
  }
  if (directory.members > kMaxMembers) {
    fail(fmt::format("{} zip members, the limit is {}", directory.members, kMaxMembers));
  }
  return directory;
}

// NOLINTNEXTLINE(readability-function-cognitive-complexity): one check per field, in order.
void ZipArchive::read_members(const Directory& directory) {
  const std::uint64_t end = directory.offset + directory.bytes;
  std::uint64_t at = directory.offset;
  members_.reserve(directory.members);
  for (std::uint64_t i = 0; i < directory.members; ++i) {
    if (end - at < kCentralBytes || load<std::uint32_t>(at) != kCentralSignature) {
      fail(fmt::format("zip directory entry {} at byte {} is damaged", i, at));
    }
    const auto flags = load<std::uint16_t>(at + 8);
    const auto method = load<std::uint16_t>(at + 10);
    std::uint64_t packed = load<std::uint32_t>(at + 20);
    std::uint64_t size = load<std::uint32_t>(at + 24);
    const std::uint64_t name_bytes = load<std::uint16_t>(at + 28);
    const std::uint64_t extra_bytes = load<std::uint16_t>(at + 30);
    const std::uint64_t comment_bytes = load<std::uint16_t>(at + 32);
    std::uint64_t offset = load<std::uint32_t>(at + 42);
    const std::uint64_t extra = at + kCentralBytes + name_bytes;
    const std::uint64_t next = extra + extra_bytes + comment_bytes;
    if (next > end) fail(fmt::format("zip directory entry {} runs past the directory", i));
    const std::string_view name(reinterpret_cast<const char*>(bytes_.data() + at + kCentralBytes),
                                name_bytes);
    if (!safe_name(name)) fail(fmt::format("zip member {} has an unsafe name {}", i, quote(name)));

    // The zip64 field holds, in this order, just those values that did not fit in 32 bits.
    for (std::uint64_t field = extra; extra + extra_bytes - field >= 4;) {
      const auto id = load<std::uint16_t>(field);
      const std::uint64_t field_end = field + 4 + load<std::uint16_t>(field + 2);
      if (field_end > extra + extra_bytes) fail(fmt::format("'{}': damaged extra field", name));
      std::uint64_t value = field + 4;
      for (std::uint64_t* wide : {&size, &packed, &offset}) {
        if (id != kExtra64 || *wide != kIn64) continue;
        if (field_end - value < 8) fail(fmt::format("'{}': damaged zip64 field", name));
        *wide = load<std::uint64_t>(value);
        value += 8;
      }
      field = field_end;
    }
    if (method != 0 || packed != size) fail(fmt::format("'{}' is compressed", name));
    if (name.back() == '/' || (load<std::uint32_t>(at + 38) & kDirectory) != 0) {
      fail(fmt::format("'{}' is a directory", name));
    }
    if ((flags & kEncrypted) != 0) fail(fmt::format("'{}' is encrypted", name));
    if ((flags & kPatch) != 0) fail(fmt::format("'{}' is patch data", name));
    if (load<std::uint16_t>(at + 34) != 0) fail(fmt::format("'{}' is on another disk", name));

    // Names and extra fields may differ in length between the two headers: skip the local ones.
    if (load<std::uint32_t>(offset) != kLocalSignature) {
      fail(fmt::format("'{}': no local header at byte {}", name, offset));
    }
    const std::uint64_t local_name = load<std::uint16_t>(offset + 26);
    const std::uint64_t data = offset + kLocalBytes + local_name + load<std::uint16_t>(offset + 28);
    const auto data_end = checked_add(data, size);
    if (!data_end || *data_end > directory.offset) {
      fail(fmt::format("'{}': {} bytes at {} reach into the directory at {}", name, size, data,
                       directory.offset));
    }
    if (local_name != name_bytes ||
        std::memcmp(bytes_.data() + offset + kLocalBytes, name.data(), name.size()) != 0) {
      fail(fmt::format("'{}' has another name in its local header", name));
    }
    members_.push_back(
        {std::string(name), bytes_.subspan(data, size), load<std::uint32_t>(at + 16)});
    local_offsets_.push_back(offset);
    at = next;
  }
  if (at != end) fail(fmt::format("{} unused bytes in the zip directory", end - at));
  check_names();
}

void ZipArchive::check_names() {
  std::unordered_set<std::string> folded;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const std::string& name = members_[i].name;
    by_name_.emplace(name, i);
    if (!folded.insert(lower_case(name)).second) {
      fail(fmt::format("zip member '{}' occurs twice", name));
    }
  }
}

void ZipArchive::check_overlaps(const Directory& directory) const {
  std::vector<std::size_t> order(members_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [this](std::size_t a, std::size_t b) {
    return local_offsets_[a] < local_offsets_[b];
  });
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Member& member = members_[order[i]];
    const auto data_end =
        static_cast<std::uint64_t>(member.bytes.data() - bytes_.data()) + member.bytes.size();
    const std::uint64_t next =
        i + 1 < order.size() ? local_offsets_[order[i + 1]] : directory.offset;
    if (data_end > next) {
      fail(fmt::format("zip member '{}' overlaps what follows it at byte {}", member.name, next));
    }
  }
}

}  // namespace dither
