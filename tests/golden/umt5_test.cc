// UMT5's encoder against transformers: make_micro_umt5.py made the weights and the embeddings.
#include <fmt/format.h>

#include <map>

#include "base/test_util.h"
#include "golden/golden.h"
#include "io/component_weights.h"
#include "io/safetensors_writer.h"
#include "models/text/t5_encoder.h"

namespace dither::golden {
namespace {

using namespace models;  // NOLINT(google-build-using-namespace)

constexpr double kTolerance = 1e-5;  // relative L2
constexpr std::int64_t kPadded = 512;

T5Config umt5_config() {
  T5Config config;
  config.vocab_size = 384;
  config.d_model = 64;
  config.d_kv = 16;
  config.d_ff = 128;
  config.num_layers = 2;
  config.num_heads = 4;
  config.bias_in_every_block = true;
  return config;
}

class Umt5Golden : public testing::TestWithParam<std::string> {
 protected:
  Tensor golden(std::string_view name) const { return file_->read(name); }
  T5Encoder encoder() const {
    const PrefixedSource source(*file_, "weights.");
    const T5Config config = umt5_config();
    return load<T5Encoder>(source, t5_encoder_table(config, source), config, *backend_,
                           DType::kF32);
  }

  std::unique_ptr<ops::Backend> backend_ = make_backend(GetParam());
  std::unique_ptr<SafetensorsFile> file_ =
      SafetensorsFile::open(source_dir() / "tests/golden/wan/umt5.safetensors");
};

// The reference runs over 512 tokens of which it masks the padding.
TEST_P(Umt5Golden, TokensWithoutPaddingGiveTheMaskedRows) {
  const T5Encoder encoder = this->encoder();
  const Tensor ids = golden("ids");
  const Tensor lengths = golden("lengths");
  for (std::int64_t i = 0; i < ids.dim(0); ++i) {
    SCOPED_TRACE(i);
    const std::int64_t length = lengths.data<std::int32_t>()[i];
    const Tensor prompt = ids.slice(0, i, i + 1).slice(1, 0, length).reshape({1, length});
    const Tensor expected = golden("embeds" + std::to_string(i));
    const Tensor embeds = encoder(prompt);
    const double error = relative_l2(embeds, expected);
    RecordProperty("relative_l2_" + std::to_string(i), fmt::format("{:.1e}", error));
    EXPECT_LE(error, kTolerance);

    const Tensor padded = pad_with_zero_rows(embeds, kPadded);
    ASSERT_EQ(padded.shape(), Shape({1, kPadded, 64}));
    EXPECT_EQ(to_floats(padded.slice(1, 0, length)), to_floats(embeds));
    const std::vector<float> rest = to_floats(padded.slice(1, length, kPadded));
    EXPECT_EQ(rest, std::vector<float>(rest.size(), 0.0F));
    EXPECT_EQ(to_floats(pad_with_zero_rows(embeds, length)), to_floats(embeds));
    EXPECT_THROW(pad_with_zero_rows(embeds, length - 1), Error);
  }
}

// What --text-encoder-precision fp8 makes of it: 14 weights between input and output, each off by
// at most 1/16, as in weight_policy_test.cc.
TEST_P(Umt5Golden, WeightsAsFp8AreOffByTheirCodesOnly) {
  const PrefixedSource weights(*file_, "weights.");
  std::map<std::string, Tensor> tensors;
  for (const TensorInfo& info : weights.tensors()) {
    tensors.emplace(info.name, weights.read(info.name));
  }
  const TempFolder folder;
  write_safetensors(folder.path() / "model.safetensors", tensors);
  const auto source = open_component_weights(folder.path(), kTransformersStem);
  std::vector<ops::LinearPrecision> precision;
  const T5Encoder encoder(
      nn::WeightScope(*source, *backend_, DType::kF32, &precision, {.plain_as_fp8 = true}),
      umt5_config());
  EXPECT_EQ(precision.size(), 14U);
  for (const ops::LinearPrecision& layer : precision) {
    EXPECT_TRUE(layer.weight_error.has_value()) << layer.name;
  }
  const double error =
      relative_l2(encoder(golden("ids").slice(0, 2, 3).slice(1, 0, 180)), golden("embeds2"));
  RecordProperty("relative_l2", fmt::format("{:.1e}", error));
  EXPECT_LE(error, std::sqrt(14.0) / 16);
}

INSTANTIATE_TEST_SUITE_P(Backends, Umt5Golden, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
