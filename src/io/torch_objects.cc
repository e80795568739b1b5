#include "io/torch_objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

using Kind = Pickle::Kind;

/// Storage types and torch dtypes, by what they make of an element.
struct TorchType {
  std::string_view global;
  DType dtype;
};
constexpr std::array<TorchType, 26> kTypes = {{
    {"torch FloatStorage", DType::kF32},
    {"torch HalfStorage", DType::kF16},
    {"torch BFloat16Storage", DType::kBF16},
    {"torch DoubleStorage", DType::kF64},
    {"torch ByteStorage", DType::kU8},
    {"torch CharStorage", DType::kI8},
    {"torch ShortStorage", DType::kI16},
    {"torch IntStorage", DType::kI32},
    {"torch LongStorage", DType::kI64},
    {"torch BoolStorage", DType::kBool},
    {"torch float32", DType::kF32},
    {"torch float16", DType::kF16},
    {"torch bfloat16", DType::kBF16},
    {"torch float64", DType::kF64},
    {"torch uint8", DType::kU8},
    {"torch int8", DType::kI8},
    {"torch int16", DType::kI16},
    {"torch int32", DType::kI32},
    {"torch int64", DType::kI64},
    {"torch bool", DType::kBool},
    {"torch uint16", DType::kU16},
    {"torch uint32", DType::kU32},
    {"torch uint64", DType::kU64},
    {"torch float8_e4m3fn", DType::kF8E4M3},
    {"torch float8_e5m2", DType::kF8E5M2},
    {"torch float8_e8m0fnu", DType::kF8E8M0},
}};

constexpr std::string_view kTensorV2 = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kTensorV3 = "torch._utils _rebuild_tensor_v3";
constexpr std::string_view kParameter = "torch._utils _rebuild_parameter";
constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr std::string_view kCounter = "collections Counter";
constexpr std::string_view kSize = "torch Size";
constexpr std::string_view kDevice = "torch device";
constexpr std::string_view kEncode = "_codecs encode";
constexpr std::string_view kSet = "builtins set";
constexpr std::string_view kSetOfPython2 = "__builtin__ set";  // what protocol 2 writes

/// Names that may occur without being a type above.
constexpr std::array<std::string_view, 12> kNames = {kTensorV2,
                                                     kTensorV3,
                                                     kParameter,
                                                     kOrderedDict,
                                                     kCounter,
                                                     kSize,
                                                     kDevice,
                                                     kEncode,
                                                     kSet,
                                                     kSetOfPython2,
                                                     "torch.storage UntypedStorage",
                                                     "torch.nn.parameter Parameter"};

std::optional<DType> type_of(std::string_view global) {
  const auto* found =
      std::ranges::find_if(kTypes, [&](const TorchType& row) { return row.global == global; });
  return found == kTypes.end() ? std::nullopt : std::optional(found->dtype);
}

bool is_allowed(std::string_view global) {
  return type_of(global) || std::ranges::find(kNames, global) != kNames.end();
}

/// True for UTF-8 text of U+0000 to U+00FF: bytes that were decoded as Latin-1.
bool is_latin1(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0xC4; });
}

bool is_float(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return true;
    default:
      return false;
  }
}

/// Marks what is reachable from `start` without passing through the reference `*skip`.
void mark(const Pickle& pickle, Pickle::Id start, const Pickle::Id* skip, std::vector<char>& seen) {
  std::vector<Pickle::Id> pending = {start};
  while (!pending.empty()) {
    const Pickle::Id id = pending.back();
    pending.pop_back();
    if (seen[id] != 0) continue;
    seen[id] = 1;
    for (const Pickle::Id& item : pickle.node(id).items) {
      if (&item != skip) pending.push_back(item);
    }
  }
}

}  // namespace

void TorchObjects::fail(const std::string& what) const {
  throw Error(ErrorCode::kDataLoss, fmt::format("{}: {}", where_, what));
}

void TorchObjects::check_values() const {
  std::optional<DType> ignored;
  for (Id id = 0; id < pickle_.nodes().size(); ++id) {
    const Kind kind = pickle_.node(id).kind;
    if (kind == Kind::kReduce || kind == Kind::kNewObject) check_call(id);
    if (kind == Kind::kPersistent) storage(id, fmt::format("value {}", id), ignored);
  }
}

void TorchObjects::check_globals(TorchGlobals globals) const {
  const auto& nodes = pickle_.nodes();
  const Id* modelopt = globals == TorchGlobals::kModelOpt
                           ? pickle_.lookup(pickle_.root(), "modelopt_state")
                           : nullptr;
  std::vector<char> outside(nodes.size(), 0);
  std::vector<char> inside(nodes.size(), 0);
  mark(pickle_, pickle_.root(), modelopt, outside);
  if (modelopt != nullptr) mark(pickle_, *modelopt, nullptr, inside);
  for (Id id = 0; id < nodes.size(); ++id) {
    const bool inert = inside[id] != 0 && outside[id] == 0;
    if (nodes[id].kind == Kind::kGlobal && !inert && !is_allowed(nodes[id].text)) {
      fail(fmt::format("the pickle names {}, which is not allowed in a checkpoint",
                       quote(nodes[id].text)));
    }
  }
}

void TorchObjects::check_call(Id id) const {
  const PickleNode& call = pickle_.node(id);
  const std::string& callable = pickle_.node(call.items[0]).text;
  if (!is_allowed(callable)) return;  // inert, by check_globals
  // NEWOBJ makes no value that we know. BUILD on an OrderedDict is dropped by Pickle, a third item
  // holds its keys; on anything else BUILD would change what the call made.
  const bool plain =
      call.kind == Kind::kReduce && (call.items.size() == 2 || callable == kOrderedDict);
  if (!plain || !is_valid_call(id, callable)) {
    fail(fmt::format("the pickle calls '{}' as no checkpoint does", callable));
  }
}

bool TorchObjects::is_valid_call(Id id, std::string_view callable) const {
  const auto& values = arguments(id);
  const auto value = [&](std::size_t i) -> const PickleNode& { return pickle_.node(values[i]); };
  const auto is_text = [](const PickleNode& node) { return node.kind == Kind::kString; };
  const std::size_t count = values.size();
  const std::string name = fmt::format("value {}", id);
  if (callable == kTensorV2 || callable == kTensorV3 || callable == kParameter) {
    tensor(id, name);
    return true;
  }
  if (callable == kOrderedDict) return count == 0;
  if (callable == kCounter) return count == 0 || (count == 1 && value(0).kind == Kind::kDict);
  if (callable == kSize) {
    integers(id, name);
    return true;
  }
  if (callable == kDevice) {  // (type[, index])
    const bool index = count == 2 && value(1).kind == Kind::kInt && value(1).integer >= 0 &&
                       value(1).integer < 100;
    return (count == 1 || index) && is_text(value(0)) &&
           (value(0).text == "cpu" || value(0).text == "cuda");
  }
  if (callable == kEncode) {  // bytes, as text
    return count == 2 && is_text(value(0)) && is_latin1(value(0).text) && is_text(value(1)) &&
           value(1).text == "latin1";
  }
  if (callable == kSet || callable == kSetOfPython2) {
    if (count != 1 || value(0).kind != Kind::kList) return false;
    const auto& items = value(0).items;
    return std::ranges::all_of(items, [&](Id item) {
      return is_text(pickle_.node(item)) || pickle_.node(item).kind == Kind::kInt;
    });
  }
  return false;
}

bool TorchObjects::is_call(Id id, std::string_view callable) const {
  const PickleNode& call = pickle_.node(id);
  return call.kind == Kind::kReduce && pickle_.is_global(call.items[0], callable);
}

const std::vector<Pickle::Id>& TorchObjects::arguments(Id call) const {
  return pickle_.node(pickle_.node(call).items[1]).items;
}

std::int64_t TorchObjects::integer(Id id, std::string_view name) const {
  if (pickle_.node(id).kind != Kind::kInt) fail(fmt::format("{}: expected an integer", name));
  return pickle_.node(id).integer;
}

Dims TorchObjects::integers(Id id, std::string_view name) const {
  if (is_call(id, kSize)) {  // torch.Size is REDUCE(torch Size, ((2, 3),))
    if (arguments(id).size() != 1) fail(fmt::format("{}: malformed torch.Size", name));
    id = arguments(id)[0];
  }
  const PickleNode& tuple = pickle_.node(id);
  if (tuple.kind != Kind::kTuple || tuple.items.size() > Dims::kMaxRank) {
    fail(fmt::format("{}: expected a tuple of at most {} integers", name, Dims::kMaxRank));
  }
  Dims dims;
  for (const Id item : tuple.items) {
    const std::int64_t value = integer(item, name);
    if (value < 0) fail(fmt::format("{}: negative extent or stride {}", name, value));
    dims.push_back(value);
  }
  return dims;
}

bool TorchObjects::flag(Id id, std::string_view name) const {
  if (pickle_.node(id).kind != Kind::kBool) {
    fail(fmt::format("{}: requires_grad is not a bool", name));
  }
  return pickle_.node(id).integer != 0;
}

void TorchObjects::check_hooks(Id id, std::string_view name) const {
  if (pickle_.node(id).kind != Kind::kNone && !is_call(id, kOrderedDict)) {
    fail(fmt::format("{}: hooks are not an OrderedDict", name));
  }
}

std::span<const std::byte> TorchObjects::storage(Id id, std::string_view name,
                                                 std::optional<DType>& dtype) const {
  const auto ref =
      torch_storage_ref(pickle_, id, container_.legacy, fmt::format("{}: {}", where_, name));
  const auto element = torch_storage_element_bytes(ref.type);
  if (element == 0) fail(fmt::format("{}: unknown storage type {}", name, quote(ref.type)));
  const auto found = container_.storages.find(ref.key);
  if (found == container_.storages.end()) {
    fail(fmt::format("{}: storage {} is missing", name, quote(ref.key)));
  }
  const auto bytes = checked_mul(ref.elements, element);
  if (!bytes || *bytes != found->second.size()) {
    fail(
        fmt::format("{}: storage '{}' should hold {} elements of {} bytes, its record has {} bytes",
                    name, ref.key, ref.elements, element, found->second.size()));
  }
  dtype = type_of(ref.type);
  return found->second;
}

// NOLINTNEXTLINE(readability-function-cognitive-complexity): a flat list of checks.
TorchTensor TorchObjects::tensor(Id id, std::string_view name) const {
  if (is_call(id, kParameter)) {  // (tensor, requires_grad, hooks)
    const auto& values = arguments(id);
    if (values.size() != 3 || is_call(values[0], kParameter)) {
      fail(fmt::format("{}: malformed parameter", name));
    }
    TorchTensor data = tensor(values[0], name);
    if (flag(values[1], name) && !is_float(data.dtype)) {
      fail(fmt::format("{}: {} has no gradient", name, dtype_name(data.dtype)));
    }
    check_hooks(values[2], name);
    return data;
  }
  const bool v3 = is_call(id, kTensorV3);
  if (!v3 && !is_call(id, kTensorV2)) fail(fmt::format("{} is not a tensor", name));
  // (storage, offset, size, stride, requires_grad, hooks[, dtype of v3][, metadata])
  const auto& values = arguments(id);
  const std::size_t required = v3 ? 7 : 6;
  if (values.size() != required && values.size() != required + 1) {
    fail(fmt::format("{}: malformed tensor of {} arguments", name, values.size()));
  }
  TorchTensor tensor;
  std::optional<DType> dtype;
  tensor.storage = storage(values[0], name, dtype);
  if (v3) {
    const PickleNode& type = pickle_.node(values[6]);
    const bool is_dtype = type.kind == Kind::kGlobal && !type.text.ends_with("Storage");
    dtype = is_dtype ? type_of(type.text) : std::nullopt;
    if (!dtype) fail(fmt::format("{}: unsupported dtype {}", name, quote(type.text)));
  }
  if (!dtype) fail(fmt::format("{}: an untyped storage without a dtype", name));
  tensor.dtype = *dtype;
  tensor.offset = integer(values[1], name);
  tensor.shape = integers(values[2], name);
  tensor.strides = integers(values[3], name);
  check_bounds(tensor, name);
  // torch cannot rebuild a v3 tensor that requires a gradient: it fills an existing one in place.
  if (flag(values[4], name) && (v3 || !is_float(tensor.dtype))) {
    fail(fmt::format("{}: {} has no gradient", name, dtype_name(tensor.dtype)));
  }
  check_hooks(values[5], name);
  if (values.size() > required) {
    // Its bits say that the values are to be conjugated or negated.
    const auto* metadata = pickle_.dict_items(values[required]);
    const bool none = pickle_.node(values[required]).kind == Kind::kNone;
    if (!none && (metadata == nullptr || !metadata->empty())) {
      fail(fmt::format("{}: tensor metadata is not supported", name));
    }
  }
  return tensor;
}

void TorchObjects::check_bounds(const TorchTensor& tensor, std::string_view name) const {
  const Shape& shape = tensor.shape;
  if (shape.size() != tensor.strides.size()) {
    fail(fmt::format("{}: {} extents but {} strides", name, shape.size(), tensor.strides.size()));
  }
  // The last element, offset + sum((size - 1) * stride), must lie in the storage.
  const std::int64_t element = dtype_bits(tensor.dtype) / 8;
  const auto capacity = static_cast<std::int64_t>(tensor.storage.size()) / element;
  auto last = tensor.offset < 0 ? std::nullopt : std::optional(tensor.offset);
  std::optional<std::int64_t> extent_product = 1;
  bool empty = false;
  for (int i = 0; i < shape.size(); ++i) {
    const std::int64_t extent = std::max<std::int64_t>(shape[i], 1);
    const auto reach = checked_mul(extent - 1, tensor.strides[i]);
    last = last && reach ? checked_add(*last, *reach) : std::nullopt;
    extent_product = extent_product ? checked_mul(*extent_product, extent) : std::nullopt;
    empty = empty || shape[i] == 0;
  }
  if (!last || !extent_product || (!empty && *last >= capacity)) {
    fail(fmt::format("{}: shape {} with strides {} at offset {} leaves its storage of {} elements",
                     name, to_string(shape), to_string(tensor.strides), tensor.offset, capacity));
  }
  // torch counts bytes, also of the reach of an empty tensor.
  const auto end = checked_add(*last, std::int64_t{1});
  if (!end || !checked_mul(*end, element) || !checked_mul(*extent_product, element)) {
    fail(fmt::format("{}: shape {} at offset {} overflows", name, to_string(shape), tensor.offset));
  }
  // An expanded tensor (stride 0) may be larger than its storage, but not without bound.
  constexpr std::int64_t kMaxExpandedBytes = std::int64_t{1} << 30;
  const std::int64_t elements = empty ? 0 : *extent_product;
  if (elements > capacity && elements * element > kMaxExpandedBytes) {
    fail(fmt::format("{}: {} elements expanded from {}", name, elements, capacity));
  }
}

}  // namespace dither
