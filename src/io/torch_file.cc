#include "io/torch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "io/torch_objects.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

using Id = Pickle::Id;
using Kind = Pickle::Kind;

}  // namespace

struct TorchFile::Impl {
  std::string description;
  TorchContainer container;
  std::vector<TensorInfo> infos;  // sorted by name
  std::map<std::string, TorchTensor, std::less<>> stored;
  std::optional<ModelOptState> modelopt;

  const Pickle& pickle() const { return container.object; }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kDataLoss, fmt::format("{}: {}", description, what));
  }

  void read_state_dict(const TorchObjects& objects, Id id);
  void read_modelopt(Id id);
};

void TorchFile::Impl::read_state_dict(const TorchObjects& objects, Id id) {
  const auto* items = pickle().dict_items(id);
  if (items == nullptr) fail("does not hold a state dict");
  for (std::size_t i = 0; i + 1 < items->size(); i += 2) {
    const PickleNode& key = pickle().node((*items)[i]);
    if (key.kind != Kind::kString) fail("a state dict key is not a string");
    const TorchTensor tensor = objects.tensor((*items)[i + 1], quote(key.text));
    infos.push_back({key.text, tensor.dtype, tensor.shape, description});
    if (!stored.emplace(key.text, tensor).second) {
      fail(fmt::format("{} occurs twice", quote(key.text)));
    }
  }
  std::ranges::sort(infos,
                    [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
}

void TorchFile::Impl::read_modelopt(Id id) {
  ModelOptState state;
  if (const Id* version = pickle().lookup(id, "modelopt_version")) {
    state.version = pickle().node(*version).text;
  }
  const Id* modes = pickle().lookup(id, "modelopt_state_dict");
  if (modes != nullptr && pickle().node(*modes).kind == Kind::kList &&
      !pickle().node(*modes).items.empty()) {
    const PickleNode& last = pickle().node(pickle().node(*modes).items.back());
    const Id* metadata = last.kind == Kind::kTuple && last.items.size() == 2
                             ? pickle().lookup(last.items[1], "metadata")
                             : nullptr;
    const Id* quantizers =
        metadata != nullptr ? pickle().lookup(*metadata, "quantizer_state") : nullptr;
    const auto* items = quantizers != nullptr ? pickle().dict_items(*quantizers) : nullptr;
    for (std::size_t i = 0; items != nullptr && i + 1 < items->size(); i += 2) {
      const Id* disabled = pickle().lookup((*items)[i + 1], "_disabled");
      if (disabled == nullptr) continue;
      const PickleNode& name = pickle().node((*items)[i]);
      if (name.kind != Kind::kString || pickle().node(*disabled).kind != Kind::kBool) {
        fail(fmt::format("quantizer {} does not say whether it is disabled", quote(name.text)));
      }
      state.quantizer_enabled[name.text] = pickle().node(*disabled).integer == 0;
    }
  }
  modelopt = std::move(state);
}

TorchFile::TorchFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TorchFile::~TorchFile() = default;

std::unique_ptr<TorchFile> TorchFile::open(const std::filesystem::path& path,
                                           TorchGlobals globals) {
  auto impl = std::make_unique<Impl>();
  impl->description = path.string();
  impl->container = open_torch_container(path);
  const Id root = impl->pickle().root();
  const TorchObjects objects(impl->container, impl->description);
  objects.check_globals(globals);
  const Id* weights = impl->pickle().lookup(root, "model_state_dict");
  impl->read_state_dict(objects, weights != nullptr ? *weights : root);
  if (const Id* state = impl->pickle().lookup(root, "modelopt_state")) impl->read_modelopt(*state);
  objects.check_values();  // last: read_state_dict() names the tensors
  return std::unique_ptr<TorchFile>(new TorchFile(std::move(impl)));
}

std::string_view TorchFile::description() const { return impl_->description; }
const std::vector<TensorInfo>& TorchFile::tensors() const { return impl_->infos; }
const std::optional<ModelOptState>& TorchFile::modelopt_state() const { return impl_->modelopt; }

const TensorInfo* TorchFile::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(impl_->infos, name, {}, &TensorInfo::name);
  return found == impl_->infos.end() || found->name != name ? nullptr : &*found;
}

Tensor TorchFile::read(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no tensor '{}'", impl_->description, name));
  }
  const TorchTensor& stored = impl_->stored.find(name)->second;
  const auto element = static_cast<std::size_t>(dtype_bits(info->dtype) / 8);
  const std::byte* const data = stored.storage.data();
  bool dense = true;
  std::int64_t expected = 1;
  for (int i = info->shape.size() - 1; i >= 0; --i) {
    dense = dense && (info->shape[i] == 1 || stored.strides[i] == expected);
    expected *= info->shape[i];
  }
  // A legacy file places storages anywhere; data<T>() needs natural alignment.
  const bool aligned = (reinterpret_cast<std::uintptr_t>(data) % element) == 0;
  if ((dense && aligned) || expected == 0) {
    auto storage = std::make_shared<Storage>(stored.storage, impl_->container.file);
    return Tensor::view(std::move(storage),
                        expected == 0 ? 0 : stored.offset * static_cast<std::int64_t>(element),
                        info->shape, info->dtype);
  }
  Tensor gathered = Tensor::host(info->shape, info->dtype);
  std::byte* out = gathered.raw();
  std::array<std::int64_t, Dims::kMaxRank> index{};
  for (std::int64_t count = 0; count < expected; ++count, out += element) {
    std::int64_t at = stored.offset;
    for (int i = 0; i < info->shape.size(); ++i) {
      at += index[static_cast<std::size_t>(i)] * stored.strides[i];
    }
    std::memcpy(out, data + static_cast<std::size_t>(at) * element, element);
    for (int i = info->shape.size() - 1; i >= 0; --i) {
      if (++index[static_cast<std::size_t>(i)] < info->shape[i]) break;
      index[static_cast<std::size_t>(i)] = 0;
    }
  }
  return gathered;
}

void TorchFile::release(const Tensor& tensor) const {
  impl_->container.file->release({tensor.raw(), tensor.bytes()});
}

bool is_torch_file(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  constexpr std::string_view kZip = "PK\x03\x04";
  constexpr std::string_view kLegacy = "\x80\x02\x8a\x0a";
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()),
                              std::min<std::size_t>(bytes.size(), 4));
  return head == kZip || head == kLegacy;
}

}  // namespace dither
