#include "io/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

/// One tensor as the header states it; offsets count from the start of the data.
struct Entry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// Receives the header's JSON as events, so that a header of 100 MB never becomes a document in
/// memory. nlohmann's reader keeps its own stack: nesting costs a bit per level and no recursion.
class HeaderHandler {
 public:
  explicit HeaderHandler(std::string_view path) : path_(path) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool start_object(std::size_t) {
    if (depth_ == 0) return enter();
    if (depth_ == 1 && in_metadata_) return enter();
    if (depth_ == 1) {
      entry_ = {};
      entry_.name = key_;
      seen_fields_.clear();
      dtype_seen_ = shape_seen_ = false;
      offsets_.clear();
      return enter();
    }
    return other_value("an object");
  }

  bool end_object() {
    --depth_;
    if (depth_ == 1 && !in_metadata_) finish_entry();
    if (depth_ == 1) in_metadata_ = false;
    return true;
  }

  bool start_array(std::size_t) {
    if (depth_ == 2 && !in_metadata_ && (key_ == "shape" || key_ == "data_offsets")) {
      if (key_ == "shape") shape_seen_ = true;
      return enter();
    }
    return other_value("an array");
  }

  bool end_array() {
    --depth_;
    return true;
  }

  bool key(std::string& name) {
    if (depth_ > 2) return true;  // inside a field that nobody reads
    if (depth_ == 1) {
      if (name.find('\0') != std::string::npos) fail("a NUL in the name {}", quote(name));
      in_metadata_ = name == "__metadata__";
      if (in_metadata_ && std::exchange(metadata_seen_, true)) fail("two '__metadata__' entries");
    } else if (in_metadata_) {
      if (metadata.contains(name)) fail("metadata key {} stands twice", quote(name));
    } else if (!seen_fields_.insert(name).second) {
      fail("tensor {}: field {} stands twice", quote(entry_.name), quote(name));
    }
    key_.swap(name);
    return true;
  }

  bool string(std::string& value) {
    if (depth_ == 2 && in_metadata_) {
      metadata.emplace(key_, std::move(value));
      return true;
    }
    if (depth_ == 2 && key_ == "dtype") {
      const auto dtype = parse_dtype(value);
      if (!dtype) {
        throw Error(ErrorCode::kUnsupported, fmt::format("{}: tensor {}: unknown dtype {}", path_,
                                                         quote(entry_.name), quote(value)));
      }
      entry_.dtype = *dtype;
      dtype_seen_ = true;
      return true;
    }
    return other_scalar("a string");
  }

  bool number_unsigned(std::uint64_t value) {
    if (in_field_array() && key_ == "shape") {
      push_extent(value);
      return true;
    }
    if (in_field_array()) {
      if (offsets_.size() == 2) fail_offsets();
      offsets_.push_back(value);
      return true;
    }
    return other_scalar("a number");
  }

  bool number_integer(std::int64_t value) { return other_scalar(fmt::format("{}", value).c_str()); }
  bool number_float(double, const std::string& text) { return other_scalar(text.c_str()); }
  bool null() { return other_scalar("null"); }
  bool boolean(bool) { return other_scalar("a boolean"); }
  bool binary(std::vector<std::uint8_t>&) { return false; }

  template <typename Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    fail("its header is not valid JSON at byte {}", 8 + position - 1);  // it counts from 1
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {}", path_, fmt::format(format, std::forward<Args>(args)...)));
  }

  [[noreturn]] void fail_offsets() const {
    fail("tensor {}: 'data_offsets' must be two byte positions", quote(entry_.name));
  }

  bool enter() {
    // serde_json, which the format's own library uses, stops at the same depth.
    constexpr int kMaxDepth = 128;
    if (++depth_ > kMaxDepth) fail("its header nests deeper than {} levels", kMaxDepth);
    return true;
  }

  bool in_field_array() const {
    return depth_ == 3 && !in_metadata_ && (key_ == "shape" || key_ == "data_offsets");
  }

  /// A value that is none of the ones above: wrong where a field is defined, ignored elsewhere.
  bool other_scalar(const char* what) const {
    if (depth_ == 0) fail("its header is {}, not an object", what);
    if (depth_ == 1 && in_metadata_) fail("'__metadata__' is {}, not an object", what);
    if (depth_ == 1) fail("tensor {} is {}, not an object", quote(key_), what);
    if (in_metadata_) fail("metadata {} is {}, not a string", quote(key_), what);
    const bool defined = key_ == "dtype" || key_ == "shape" || key_ == "data_offsets";
    if (defined && depth_ <= 3) {
      fail("tensor {}: {} holds {}", quote(entry_.name), quote(key_), what);
    }
    return true;
  }

  bool other_value(const char* what) {
    other_scalar(what);
    return enter();
  }

  void push_extent(std::uint64_t value) {
    if (entry_.shape.size() == Dims::kMaxRank) {
      throw Error(ErrorCode::kUnsupported, fmt::format("{}: tensor {} has more than {} dimensions",
                                                       path_, quote(entry_.name), Dims::kMaxRank));
    }
    if (!std::in_range<std::int64_t>(value)) {
      fail("tensor {}: extent {} is too large", quote(entry_.name), value);
    }
    entry_.shape.push_back(static_cast<std::int64_t>(value));
  }

  void finish_entry() {
    if (!dtype_seen_) fail("tensor {} has no 'dtype'", quote(entry_.name));
    if (!shape_seen_) fail("tensor {} has no 'shape'", quote(entry_.name));
    if (offsets_.size() != 2) fail_offsets();
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    entries.push_back(std::move(entry_));
  }

  std::string_view path_;
  int depth_ = 0;
  std::string key_;  ///< the latest key at depth 1 or 2
  bool in_metadata_ = false;
  bool metadata_seen_ = false;

  Entry entry_;
  std::set<std::string> seen_fields_;
  bool dtype_seen_ = false;
  bool shape_seen_ = false;
  std::vector<std::uint64_t> offsets_;
};

/// Bytes of a tensor; nothing when the count overflows or a sub-byte type leaves a partial byte.
/// Extents of 0 do not hide an overflow of the others.
std::optional<std::uint64_t> byte_length(const Entry& entry) {
  auto bits = static_cast<std::int64_t>(dtype_bits(entry.dtype));
  bool is_empty = false;
  for (const std::int64_t extent : entry.shape) {
    is_empty = is_empty || extent == 0;
    const auto product = checked_mul(bits, std::max<std::int64_t>(extent, 1));
    if (!product) return std::nullopt;
    bits = *product;
  }
  if (is_empty) return 0;
  if (bits % 8 != 0) return std::nullopt;
  return static_cast<std::uint64_t>(bits) / 8;
}

void check_entry(const Entry& entry, std::uint64_t data_bytes, std::string_view path) {
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: tensor {}: {}", path, quote(entry.name), what));
  };
  if (entry.begin > entry.end) {
    fail(fmt::format("begins at data byte {} but ends at {}", entry.begin, entry.end));
  }
  if (entry.end > data_bytes) {
    fail(fmt::format("ends at data byte {}, the file has {}", entry.end, data_bytes));
  }
  const auto expected = byte_length(entry);
  if (!expected) {
    fail(fmt::format("{} {} is not a whole number of bytes that could be addressed",
                     dtype_name(entry.dtype), to_string(entry.shape)));
  }
  if (entry.end - entry.begin != *expected) {
    fail(fmt::format("{} {} takes {} bytes, its span [{}, {}) has {}", dtype_name(entry.dtype),
                     to_string(entry.shape), *expected, entry.begin, entry.end,
                     entry.end - entry.begin));
  }
}

/// Spans in file order start at 0, touch exactly and end with the file.
void check_spans(const std::vector<Entry>& entries, std::uint64_t data_bytes,
                 std::string_view path) {
  std::vector<const Entry*> order;
  order.reserve(entries.size());
  for (const Entry& entry : entries) order.push_back(&entry);
  std::ranges::sort(order, {}, [](const Entry* e) { return std::pair(e->begin, e->end); });

  std::uint64_t cursor = 0;
  const Entry* previous = nullptr;
  for (const Entry* entry : order) {
    if (entry->begin < cursor) {
      throw Error(
          ErrorCode::kDataLoss,
          fmt::format("{}: tensor {} begins at data byte {}, inside {}, which ends at {}", path,
                      quote(entry->name), entry->begin, quote(previous->name), cursor));
    }
    if (entry->begin > cursor) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: data bytes [{}, {}) before tensor {} belong to no tensor", path,
                              cursor, entry->begin, quote(entry->name)));
    }
    cursor = entry->end;
    previous = entry;
  }
  if (cursor != data_bytes) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: data bytes [{}, {}) after the last tensor belong to no tensor",
                            path, cursor, data_bytes));
  }
}

/// The JSON text, after checking that its length is possible.
std::string_view header_text(std::span<const std::byte> file, std::string_view path) {
  if (file.size() < 8) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {} bytes, too short for a safetensors file", path, file.size()));
  }
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) {
    length = length << 8U | std::to_integer<std::uint64_t>(file[static_cast<std::size_t>(i)]);
  }
  if (length > kMaxSafetensorsHeaderBytes) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: states a header of {} bytes, the format allows {}; perhaps this "
                            "is not a safetensors file",
                            path, length, kMaxSafetensorsHeaderBytes));
  }
  if (length > file.size() - 8) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: header ends at byte {}, the file has {}",
                                                  path, 8 + length, file.size()));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  // nlohmann's lexer takes NUL for the end of the input and would ignore what follows.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: its header is not valid JSON at byte {}", path, 8 + nul));
  }
  return text;
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view path) {
  const std::string_view text = header_text(file, path);
  HeaderHandler handler(path);
  nlohmann::json::sax_parse(text.begin(), text.end(), &handler);

  std::vector<Entry>& entries = handler.entries;
  const std::uint64_t data_bytes = file.size() - 8 - text.size();
  for (const Entry& entry : entries) check_entry(entry, data_bytes, path);
  std::ranges::sort(entries, {}, &Entry::name);
  const auto twin = std::ranges::adjacent_find(entries, {}, &Entry::name);
  if (twin != entries.end()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: tensor {} stands twice", path, quote(twin->name)));
  }
  check_spans(entries, data_bytes, path);

  SafetensorsHeader header;
  header.metadata = std::move(handler.metadata);
  header.tensors.reserve(entries.size());
  header.offsets.reserve(entries.size());
  for (Entry& entry : entries) {
    header.tensors.push_back({std::move(entry.name), entry.dtype, entry.shape, std::string(path)});
    header.offsets.push_back(8 + text.size() + entry.begin);
  }
  return header;
}

}  // namespace dither
