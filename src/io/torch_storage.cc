#include "io/torch_storage.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "io/untrusted_name.h"
#include "io/utf8.h"
#include "io/zip_archive.h"

namespace dither {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw Error(ErrorCode::kDataLoss, fmt::format("{}: {}", path.string(), what));
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool starts_with(std::span<const std::byte> bytes, std::string_view magic) {
  return as_text(bytes).starts_with(magic);
}

/// A decimal number of at most nine digits.
bool is_digits(std::string_view text) {
  return !text.empty() && text.size() < 10 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The file format versions that torch reads. It writes "3\n".
bool is_version(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text == "10" || (text.size() == 1 && is_digits(text) && text != "0");
}

// Pickle of the integer 0x1950a86a20f9469cfc6c, with which torch.save's legacy form starts.
constexpr std::string_view kLegacyMagic(
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", 15);

bool is_version_record(std::string_view name) {
  return name == "version" || name == ".data/version";
}

/// What torch expects of the small records beside the pickle.
void check_record(std::string_view name, std::string_view content,
                  const std::filesystem::path& path) {
  const auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (std::ranges::any_of(name, upper)) {
    // torch looks records up without regard to case, and writes none like this.
    fail(path, fmt::format("record '{}' is not in lower case", name));
  }
  if (is_version_record(name) && !is_version(content)) {
    fail(path, fmt::format("record '{}' does not say a version from 1 to 10", name));
  }
  if (name == ".storage_alignment" && !is_digits(content)) {
    fail(path, "record '.storage_alignment' is not a number");
  }
  if (name == ".data/serialization_id" && !is_utf8(content)) {
    fail(path, "record '.data/serialization_id' is not valid UTF-8");
  }
}

TorchContainer open_zip(std::shared_ptr<const MappedFile> file) {
  const auto& path = file->path();
  const ZipArchive archive(file->bytes(), path);
  constexpr std::string_view kPickleName = "/data.pkl";
  std::string prefix;
  for (const auto& member : archive.members()) {
    if (!member.name.ends_with(kPickleName)) continue;
    const auto candidate = member.name.substr(0, member.name.size() - kPickleName.size() + 1);
    if (candidate.find('/') != candidate.size() - 1) continue;  // data.pkl deeper down
    if (!prefix.empty()) fail(path, "two data.pkl records");
    prefix = candidate;
  }
  if (prefix.empty()) fail(path, "no data.pkl record: not written by torch.save");

  TorchContainer container;
  bool has_version = false;
  for (const auto& member : archive.members()) {
    if (!member.name.starts_with(prefix)) {
      fail(path, fmt::format("record '{}' is outside '{}'", member.name, prefix));
    }
    const std::string_view name = std::string_view(member.name).substr(prefix.size());
    if (name == "constants.pkl" || name.starts_with("code/")) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: a TorchScript archive (record '{}'); save a state dict with "
                              "torch.save instead",
                              path.string(), name));
    }
    check_record(name, as_text(member.bytes), path);
    has_version = has_version || is_version_record(name);
    if (name == "byteorder" && as_text(member.bytes) != "little") {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: byte order {}, only little-endian files are supported",
                              path.string(), quote(as_text(member.bytes))));
    }
    if (name.starts_with("data/")) container.storages.emplace(name.substr(5), member.bytes);
  }
  if (!has_version) fail(path, "no version record: not written by torch.save");
  container.object =
      Pickle::parse(archive.find(prefix + "data.pkl")->bytes, path.string() + ": data.pkl");
  container.file = std::move(file);
  return container;
}

bool is_plain(const PickleNode& node) {
  using Kind = Pickle::Kind;
  return node.kind != Kind::kGlobal && node.kind != Kind::kReduce &&
         node.kind != Kind::kNewObject && node.kind != Kind::kPersistent;
}

/// The legacy header: protocol version and byte order.
void check_legacy_header(const Pickle& version, const Pickle& info,
                         const std::filesystem::path& path) {
  constexpr std::int64_t kProtocol = 1001;
  if (version.node(version.root()).kind != Pickle::Kind::kInt ||
      version.node(version.root()).integer != kProtocol) {
    fail(path, "not protocol 1001 of torch.save's legacy form");
  }
  const Pickle::Id* little = info.lookup(info.root(), "little_endian");
  if (little == nullptr || info.node(*little).kind != Pickle::Kind::kBool ||
      info.node(*little).integer != 1) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: only little-endian files are supported", path.string()));
  }
}

/// Element size of every storage that the object refers to.
std::map<std::string, std::uint64_t, std::less<>> element_bytes_by_key(const Pickle& object,
                                                                       const std::string& where) {
  std::map<std::string, std::uint64_t, std::less<>> sizes;
  for (Pickle::Id id = 0; id < object.nodes().size(); ++id) {
    if (object.node(id).kind != Pickle::Kind::kPersistent) continue;
    const auto ref = torch_storage_ref(object, id, true, where);
    const auto bytes = torch_storage_element_bytes(ref.type);
    const auto [found, inserted] = sizes.emplace(ref.key, bytes);
    if (bytes == 0 || (!inserted && found->second != bytes)) {
      throw Error(ErrorCode::kDataLoss, fmt::format("{}: storage {} has type {}", where,
                                                    quote(ref.key), quote(ref.type)));
    }
  }
  return sizes;
}

TorchContainer open_legacy(std::shared_ptr<const MappedFile> file) {
  const auto& path = file->path();
  const std::string where = path.string();
  std::span<const std::byte> rest = file->bytes().subspan(kLegacyMagic.size());
  const auto next = [&](const char* what) {
    auto pickle = Pickle::parse(rest, fmt::format("{}: {}", where, what));
    rest = rest.subspan(pickle.consumed());
    return pickle;
  };
  const auto next_plain = [&](const char* what) {
    auto pickle = next(what);
    const auto& nodes = pickle.nodes();
    if (!std::ranges::all_of(nodes, is_plain)) {
      fail(path, fmt::format("the {} is more than plain values", what));
    }
    return pickle;
  };
  const Pickle version = next_plain("protocol version");
  const Pickle info = next_plain("system info");
  check_legacy_header(version, info, path);
  TorchContainer container;
  container.legacy = true;
  container.object = next("object");
  const Pickle keys = next_plain("list of storage keys");
  if (keys.node(keys.root()).kind != Pickle::Kind::kList) fail(path, "no list of storage keys");

  const auto element_bytes = element_bytes_by_key(container.object, where);
  for (const Pickle::Id id : keys.node(keys.root()).items) {
    const std::string& key = keys.node(id).text;
    const auto found = element_bytes.find(key);
    if (keys.node(id).kind != Pickle::Kind::kString || found == element_bytes.end()) {
      fail(path, fmt::format("storage key {} is not used by the object", quote(key)));
    }
    std::uint64_t elements = 0;
    if (rest.size() < sizeof(elements)) fail(path, fmt::format("ends before storage '{}'", key));
    std::memcpy(&elements, rest.data(), sizeof(elements));
    rest = rest.subspan(sizeof(elements));
    const auto bytes = checked_mul(elements, found->second);
    if (!bytes || *bytes > rest.size()) {
      fail(path, fmt::format("storage '{}' has {} elements of {} bytes, the file has {} bytes left",
                             key, elements, found->second, rest.size()));
    }
    if (!container.storages.emplace(key, rest.first(*bytes)).second) {
      fail(path, fmt::format("storage '{}' occurs twice", key));
    }
    rest = rest.subspan(*bytes);
  }
  if (!rest.empty()) fail(path, fmt::format("{} bytes behind the last storage", rest.size()));
  container.file = std::move(file);
  return container;
}

}  // namespace

TorchContainer open_torch_container(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  if (starts_with(bytes, "PK\x03\x04")) return open_zip(std::move(file));
  if (starts_with(bytes, kLegacyMagic)) return open_legacy(std::move(file));
  fail(path, "neither a zip archive nor a legacy file of torch.save");
}

TorchStorageRef torch_storage_ref(const Pickle& pickle, Pickle::Id id, bool legacy,
                                  std::string_view where) {
  const auto malformed = [&]() -> Error {
    return {ErrorCode::kDataLoss, fmt::format("{}: malformed storage reference", where)};
  };
  using Kind = Pickle::Kind;
  const auto& persistent = pickle.node(id);
  if (persistent.kind != Kind::kPersistent) throw malformed();
  const auto& tuple = pickle.node(persistent.items[0]);
  if (tuple.kind != Kind::kTuple || tuple.items.size() != (legacy ? 6 : 5)) throw malformed();
  const auto field = [&](std::size_t i) -> const PickleNode& {
    return pickle.node(tuple.items[i]);
  };
  if (field(0).kind != Kind::kString || field(0).text != "storage" ||
      field(1).kind != Kind::kGlobal || field(2).kind != Kind::kString ||
      field(3).kind != Kind::kString || field(4).kind != Kind::kInt || field(4).integer < 0 ||
      (legacy && field(5).kind != Kind::kNone)) {
    throw malformed();
  }
  return {field(1).text, field(2).text, static_cast<std::uint64_t>(field(4).integer)};
}

std::uint64_t torch_storage_element_bytes(std::string_view type) {
  struct Row {
    std::string_view type;
    std::uint64_t bytes;
  };
  static constexpr std::array<Row, 11> kRows = {{{"torch FloatStorage", 4},
                                                 {"torch HalfStorage", 2},
                                                 {"torch BFloat16Storage", 2},
                                                 {"torch DoubleStorage", 8},
                                                 {"torch ByteStorage", 1},
                                                 {"torch CharStorage", 1},
                                                 {"torch ShortStorage", 2},
                                                 {"torch IntStorage", 4},
                                                 {"torch LongStorage", 8},
                                                 {"torch BoolStorage", 1},
                                                 {"torch.storage UntypedStorage", 1}}};
  for (const Row& row : kRows) {
    if (row.type == type) return row.bytes;
  }
  return 0;
}

}  // namespace dither
