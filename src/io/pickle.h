#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

/// What a pickle would build, as data. Nothing is imported or called: a GLOBAL is a name, a REDUCE
/// a pair (callable, arguments). Nodes live in one array and refer to each other by index, so
/// shared and even cyclic values cost nothing and destruction never recurses.
struct PickleNode {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,        ///< integer
    kInt,         ///< integer
    kFloat,       ///< real
    kString,      ///< text, UTF-8
    kTuple,       ///< items
    kList,        ///< items
    kSet,         ///< empty
    kDict,        ///< items: key, value, key, value, ...
    kGlobal,      ///< text: "module name"
    kReduce,      ///< items: callable, arguments and what BUILD or SETITEM added
    kNewObject,   ///< items: class, arguments and the state that BUILD added
    kPersistent,  ///< items: the id
  };
  using Id = std::uint32_t;

  Kind kind = Kind::kNone;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<Id> items;
};

/// Bounds that a hostile pickle runs into before it costs memory or time.
struct PickleLimits {
  std::size_t bytes = std::size_t{64} << 20;
  std::size_t operations = 50'000'000;
  std::size_t nodes = 8'000'000;
  std::size_t memo = 4'000'000;
  std::size_t string_bytes = std::size_t{1} << 20;
  std::size_t depth = 64;  ///< open MARKs
};

class Pickle {
 public:
  /// Interprets one pickle at the start of `bytes` (protocol 2, the opcodes that torch's
  /// weights-only reader knows). Throws kDataLoss on everything else; `where` is for messages.
  static Pickle parse(std::span<const std::byte> bytes, std::string_view where,
                      const PickleLimits& limits = {});

  using Id = PickleNode::Id;
  using Kind = PickleNode::Kind;

  Id root() const { return root_; }
  const PickleNode& node(Id id) const { return nodes_[id]; }
  const std::vector<PickleNode>& nodes() const { return nodes_; }
  /// Bytes that the pickle took, STOP included.
  std::size_t consumed() const { return consumed_; }

  /// The value of a string key of a dict (or of the dict that an OrderedDict REDUCE built); null
  /// when `id` is no such thing or has no such key. The last of several equal keys counts, as in
  /// Python.
  const Id* lookup(Id id, std::string_view key) const;
  /// The items of a dict or OrderedDict (key, value, ...); null for anything else.
  const std::vector<Id>* dict_items(Id id) const;
  /// True for the global "module name".
  bool is_global(Id id, std::string_view name) const;

 private:
  friend class PickleMachine;

  std::vector<PickleNode> nodes_;
  Id root_ = 0;
  std::size_t consumed_ = 0;
};

}  // namespace dither
