#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/test_util.h"
#include "convert/modelopt_fp8.h"
#include "io/safetensors_writer.h"
#include "tensor/tensor.h"

namespace dither::convert {

/// A float32 tensor.
inline Tensor floats(const Shape& shape, const std::vector<float>& values) {
  Tensor tensor = Tensor::host(shape, DType::kF32);
  std::copy(values.begin(), values.end(), tensor.data<float>());
  return tensor;
}

/// The pickle of torch.save({"model_state_dict": state}) in torch's legacy form, for F32 tensors.
class TorchState {
 public:
  TorchState& add(const std::string& name, const Tensor& tensor) {
    state_ += text(name) + "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") +
              "ctorch\nFloatStorage\n" + text(key(count_)) + text("cpu") +
              integer(tensor.elements()) + "NtQ" + integer(0) + dims(tensor.shape()) +
              dims(contiguous_strides(tensor.shape())) + "\x89" + "ccollections\nOrderedDict\n)RtR";
    keys_ += text(key(count_++));
    data_ += bytes(tensor.elements(), 8);
    data_.append(reinterpret_cast<const char*>(tensor.raw()), tensor.bytes());
    return *this;
  }
  TorchState& amax(const std::string& layer, float weight, float input) {
    add(layer + ".weight_quantizer._amax", floats({}, {weight}));
    return add(layer + ".input_quantizer._amax", floats({}, {input}));
  }

  std::string file() const {
    const std::string proto = "\x80\x02";
    return proto + std::string("\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.", 13) + proto + "M\xe9\x03." +
           proto + "}(" + text("protocol_version") + "M\xe9\x03" + text("little_endian") + "\x88" +
           text("type_sizes") + "}(" + text("short") + integer(2) + text("int") + integer(4) +
           text("long") + integer(4) + "uu." + proto + "}" + text("model_state_dict") +
           "ccollections\nOrderedDict\n)R(" + state_ + "us." + proto + "](" + keys_ + "e." + data_;
  }

 private:
  static std::string key(int index) { return std::to_string(index); }
  static std::string bytes(std::int64_t value, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += static_cast<char>(value >> (8 * i));
    return out;
  }
  static std::string text(const std::string& value) {
    return fmt::format("X{}{}", bytes(static_cast<std::int64_t>(value.size()), 4), value);
  }
  static std::string integer(std::int64_t value) { return fmt::format("J{}", bytes(value, 4)); }
  static std::string dims(const Dims& values) {
    std::string items;
    for (const std::int64_t value : values) items += integer(value);
    return fmt::format("({}t", items);
  }

  int count_ = 0;
  std::string state_;
  std::string keys_;
  std::string data_;
};

/// A small export in a folder of its own: layers "a" [2, 2] and "b" [2, 2] to be quantized,
/// "skipped" [2, 2] ignored, and a backbone that knows them. Tests change it before they convert.
struct TestExport {
  TempFolder temp;
  std::map<std::string, Tensor> tensors = {
      {"a.weight", floats({2, 2}, {1, -2, 3, 4})},
      {"a.bias", floats({2}, {5, 6})},
      {"b.weight", floats({2, 2}, {0.5, 0.25, -1, 1})},
      {"skipped.weight", floats({2, 2}, {7, 7, 7, 7})},
  };
  std::string config = R"({"_class_name": "WanTransformer3DModel", "quantization_config":
      {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["skipped"]}})";
  TorchState backbone = TorchState().amax("a", 4, 8).amax("b", 1, 2);
  ModelOptFp8Options options = {.modelopt_hf_dir = temp.path() / "hf",
                                .modelopt_backbone_ckpt = temp.path() / "backbone.pt",
                                .output_dir = temp.path() / "out"};

  void write() const {
    temp.write("hf/config.json", config);
    temp.write("backbone.pt", backbone.file());
    write_safetensors(temp.path() / "hf/model.safetensors", tensors);
  }
  ModelOptFp8Report convert() const {
    write();
    return convert_modelopt_fp8(options);
  }
};

}  // namespace dither::convert
