#include "io/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "base/error.h"
#include "io/utf8.h"

namespace dither {
namespace {

// Opcodes by their names in CPython's pickletools.
enum Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kBinFloat = 'G',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8A,
  kEmptySet = 0x8F,
};

}  // namespace

/// The stack machine of the pickle protocol over symbolic values.
class PickleMachine {
 public:
  using Id = PickleNode::Id;
  using Kind = PickleNode::Kind;

  PickleMachine(std::span<const std::byte> bytes, std::string_view where,
                const PickleLimits& limits)
      : bytes_(bytes.first(std::min(bytes.size(), limits.bytes))), where_(where), limits_(limits) {}

  Pickle run() {
    for (std::size_t operation = 0;; ++operation) {
      if (operation == limits_.operations) fail("more operations than the limit allows");
      const auto opcode = read<std::uint8_t>();
      if (operation == 0 && opcode != kProto) fail("does not start with a protocol number");
      if (opcode == kStop) break;
      execute(opcode);
    }
    pickle_.root_ = pop();
    if (!marks_.empty()) fail("a group is left open at STOP");
    if (!stack_.empty()) fail("values are left on the stack at STOP");
    pickle_.consumed_ = at_;
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: pickle byte {}: {}", where_, at_, what));
  }

  std::span<const std::byte> take(std::size_t count) {
    if (bytes_.size() - at_ < count) fail("the pickle ends in the middle of a value");
    const auto taken = bytes_.subspan(at_, count);
    at_ += count;
    return taken;
  }

  template <typename T>
  T read() {
    T value{};
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string read_text(std::size_t count) {
    if (count > limits_.string_bytes) fail(fmt::format("a string of {} bytes", count));
    const auto raw = take(count);
    std::string text(reinterpret_cast<const char*>(raw.data()), raw.size());
    if (!is_utf8(text)) fail("a string is not valid UTF-8");
    return text;
  }

  std::string read_line() {
    std::string line;
    for (char c = read<char>(); c != '\n'; c = read<char>()) {
      if (line.size() == limits_.string_bytes) fail("a name without an end");
      line += c;
    }
    if (line.empty() || !is_utf8(line)) fail("a name is empty or not valid UTF-8");
    return line;
  }

  Id make(PickleNode node) {
    if (pickle_.nodes_.size() >= limits_.nodes) fail("more values than the limit allows");
    pickle_.nodes_.push_back(std::move(node));
    return static_cast<Id>(pickle_.nodes_.size() - 1);
  }
  void push(PickleNode node) { stack_.push_back(make(std::move(node))); }
  void push_items(Kind kind, std::vector<Id> items) {
    push({.kind = kind, .integer = 0, .real = 0, .text = {}, .items = std::move(items)});
  }
  void push_integer(Kind kind, std::int64_t value) {
    push({.kind = kind, .integer = value, .real = 0, .text = {}, .items = {}});
  }
  void push_text(Kind kind, std::string text) {
    push({.kind = kind, .integer = 0, .real = 0, .text = std::move(text), .items = {}});
  }

  std::size_t frame() const { return marks_.empty() ? 0 : marks_.back(); }

  Id pop() {
    if (stack_.size() <= frame()) fail("takes a value from an empty stack");
    const Id id = stack_.back();
    stack_.pop_back();
    return id;
  }
  PickleNode& top() {
    if (stack_.size() <= frame()) fail("needs a value on the stack");
    return pickle_.nodes_[stack_.back()];
  }
  std::vector<Id> pop_many(std::size_t count) {
    if (stack_.size() - frame() < count) fail("takes values from an empty stack");
    std::vector<Id> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }
  std::vector<Id> pop_to_mark() {
    if (marks_.empty()) fail("closes a group that was never opened");
    auto items = pop_many(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }

  /// Keys may be scalars, globals and tuples of those. Python would hash tuples of tuples too, in a
  /// time that can grow exponentially with their depth.
  bool is_key(Id id, bool in_tuple = false) const {
    const PickleNode& node = pickle_.nodes_[id];
    switch (node.kind) {
      case Kind::kNone:
      case Kind::kBool:
      case Kind::kInt:
      case Kind::kFloat:
      case Kind::kString:
      case Kind::kGlobal:
        return true;
      case Kind::kTuple:
        return !in_tuple &&
               std::ranges::all_of(node.items, [this](Id item) { return is_key(item, true); });
      default:
        return false;
    }
  }

  void append(const std::vector<Id>& items) {
    PickleNode& list = top();
    if (list.kind != Kind::kList) fail("appends to something that is not a list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void set_items(const std::vector<Id>& items) {
    if (items.size() % 2 != 0) fail("a key without a value");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      if (!is_key(items[i])) fail("a dictionary key is not a plain value");
    }
    PickleNode& target = top();
    // collections.OrderedDict is REDUCE(global, ()) followed by its items.
    if (is_ordered_dict(target)) {
      if (target.items.size() == 2) {
        const Id dict =
            make({.kind = Kind::kDict, .integer = 0, .real = 0, .text = {}, .items = {}});
        top().items.push_back(dict);  // make() may have moved the nodes
      }
      auto& stored = pickle_.nodes_[top().items[2]].items;
      stored.insert(stored.end(), items.begin(), items.end());
      return;
    }
    if (target.kind != Kind::kDict) fail("sets a key of something that is not a dictionary");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  bool is_ordered_dict(const PickleNode& node) const {
    return node.kind == Kind::kReduce &&
           pickle_.is_global(node.items[0], "collections OrderedDict") &&
           pickle_.nodes_[node.items[1]].items.empty();
  }

  void call(Kind kind) {
    auto items = pop_many(2);
    if (pickle_.nodes_[items[0]].kind != Kind::kGlobal) fail("calls something that has no name");
    if (pickle_.nodes_[items[1]].kind != Kind::kTuple) fail("calls without an argument tuple");
    push_items(kind, std::move(items));
  }

  void build() {
    const Id state = pop();
    PickleNode& object = top();
    if (is_ordered_dict(object)) {
      // Its attributes (torch's _metadata) are inert.
      if (pickle_.dict_items(state) == nullptr) fail("sets attributes that are not a dictionary");
      return;
    }
    if (object.kind != Kind::kReduce && object.kind != Kind::kNewObject) {
      fail("sets the state of a plain value");
    }
    object.items.push_back(state);
  }

  void memo_get(std::uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail(fmt::format("memo entry {} was never stored", index));
    stack_.push_back(found->second);
  }
  void memo_put(std::uint32_t index) {
    if (memo_.size() >= limits_.memo) fail("more memo entries than the limit allows");
    top();  // there must be a value
    memo_[index] = stack_.back();
  }

  void push_long() {
    const auto count = read<std::uint8_t>();
    if (count > 8) fail(fmt::format("an integer of {} bytes", count));
    const auto raw = take(count);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      value |= static_cast<std::uint64_t>(raw[i]) << (8 * i);
    }
    if (count > 0 && count < 8 && (value >> (8U * count - 1)) != 0) {
      value |= ~std::uint64_t{0} << (8U * count);  // two's complement of `count` bytes
    }
    push_integer(Kind::kInt, static_cast<std::int64_t>(value));
  }

  void push_float() {
    auto bits = read<std::uint64_t>();  // the protocol stores doubles big-endian
    bits = __builtin_bswap64(bits);
    push({.kind = Kind::kFloat,
          .integer = 0,
          .real = std::bit_cast<double>(bits),
          .text = {},
          .items = {}});
  }

  void protocol() {
    if (const auto version = read<std::uint8_t>(); version != 2) {
      fail(fmt::format("pickle protocol {}, torch writes 2", version));
    }
  }

  void execute(std::uint8_t opcode);

  std::span<const std::byte> bytes_;
  std::string_view where_;
  const PickleLimits& limits_;
  std::size_t at_ = 0;
  Pickle pickle_;
  std::vector<Id> stack_;
  std::vector<std::size_t> marks_;  // stack heights
  std::unordered_map<std::uint32_t, Id> memo_;
};

// One case per opcode of the protocol: long, but flat.
void PickleMachine::execute(std::uint8_t opcode) {  // NOLINT(readability-function-*)
  switch (opcode) {
    case kProto:
      return protocol();
    case kMark:
      if (marks_.size() == limits_.depth) fail("values are nested too deeply");
      marks_.push_back(stack_.size());
      return;
    case kNone:
      return push({});
    case kNewTrue:
      return push_integer(Kind::kBool, 1);
    case kNewFalse:
      return push_integer(Kind::kBool, 0);
    case kBinInt:
      return push_integer(Kind::kInt, read<std::int32_t>());
    case kBinInt1:
      return push_integer(Kind::kInt, read<std::uint8_t>());
    case kBinInt2:
      return push_integer(Kind::kInt, read<std::uint16_t>());
    case kLong1:
      return push_long();
    case kBinFloat:
      return push_float();
    case kBinUnicode:
      return push_text(Kind::kString, read_text(read<std::uint32_t>()));
    case kShortBinString:
      return push_text(Kind::kString, read_text(read<std::uint8_t>()));
    case kGlobal: {
      std::string name = read_line();
      name += ' ';
      name += read_line();
      return push_text(Kind::kGlobal, std::move(name));
    }
    case kEmptyDict:
      return push_items(Kind::kDict, {});
    case kEmptyList:
      return push_items(Kind::kList, {});
    case kEmptySet:
      return push_items(Kind::kSet, {});
    case kEmptyTuple:
      return push_items(Kind::kTuple, {});
    case kTuple1:
      return push_items(Kind::kTuple, pop_many(1));
    case kTuple2:
      return push_items(Kind::kTuple, pop_many(2));
    case kTuple3:
      return push_items(Kind::kTuple, pop_many(3));
    case kTuple:
      return push_items(Kind::kTuple, pop_to_mark());
    case kAppend:
      return append({pop()});
    case kAppends:
      return append(pop_to_mark());
    case kSetItem:
      return set_items(pop_many(2));
    case kSetItems:
      return set_items(pop_to_mark());
    case kReduce:
      return call(Kind::kReduce);
    case kNewObj:
      return call(Kind::kNewObject);
    case kBuild:
      return build();
    case kBinPersId:
      return push_items(Kind::kPersistent, {pop()});
    case kBinGet:
      return memo_get(read<std::uint8_t>());
    case kLongBinGet:
      return memo_get(read<std::uint32_t>());
    case kBinPut:
      return memo_put(read<std::uint8_t>());
    case kLongBinPut:
      return memo_put(read<std::uint32_t>());
    default:
      fail(fmt::format("opcode 0x{:02X} is not allowed", opcode));
  }
}

Pickle Pickle::parse(std::span<const std::byte> bytes, std::string_view where,
                     const PickleLimits& limits) {
  return PickleMachine(bytes, where, limits).run();
}

const std::vector<Pickle::Id>* Pickle::dict_items(Id id) const {
  const PickleNode& value = node(id);
  if (value.kind == Kind::kDict) return &value.items;
  if (value.kind != Kind::kReduce || !is_global(value.items[0], "collections OrderedDict")) {
    return nullptr;
  }
  // Without a third item the map is empty, exactly like its argument tuple.
  return &node(value.items.size() > 2 ? value.items[2] : value.items[1]).items;
}

const Pickle::Id* Pickle::lookup(Id id, std::string_view key) const {
  const std::vector<Id>* items = dict_items(id);
  if (items == nullptr) return nullptr;
  const Id* found = nullptr;
  for (std::size_t i = 0; i + 1 < items->size(); i += 2) {
    const PickleNode& candidate = node((*items)[i]);
    if (candidate.kind == Kind::kString && candidate.text == key) found = &(*items)[i + 1];
  }
  return found;
}

bool Pickle::is_global(Id id, std::string_view name) const {
  return node(id).kind == Kind::kGlobal && node(id).text == name;
}

}  // namespace dither
