// Tiny Wan transformers, stage by stage, against diffusers: make_micro_wan.py says what is what.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "base/test_util.h"
#include "golden/golden.h"
#include "golden/seeded.h"
#include "models/wan/transformer.h"
#include "quant/fp8.h"
#include "quant/weight_source.h"

namespace dither::golden {
namespace {

using ::testing::HasSubstr;

constexpr double kTolerance = 1e-5;  // relative L2
constexpr models::VideoGrid kGrid = {.frames = 3, .height = 3, .width = 4};
constexpr std::int64_t kSteps = 3;
constexpr std::int64_t kText = 12;
constexpr std::int64_t kPrompt = 7;

models::WanConfig micro_config(std::string_view variant) {
  models::WanConfig config;
  config.num_attention_heads = 2;
  config.text_dim = 64;
  config.ffn_dim = 320;
  config.num_layers = 2;
  if (variant == "i2v") config.in_channels = 36;
  if (variant == "ti2v") {
    config.in_channels = 48;
    config.out_channels = 48;
  }
  return config;
}

Tensor golden(std::string_view what) {
  return SafetensorsFile::open(source_dir() / "tests/golden/wan/transformer.safetensors")
      ->read(what);
}

Tensor step_of(const Tensor& tensor, std::int64_t step) { return tensor.slice(0, step, step + 1); }

/// Embeddings of which the rows behind the prompt are zeros.
Tensor prompt_embeds(std::string_view variant) {
  Tensor embeds = seeded(fmt::format("{}.prompt_embeds", variant), {1, kText, 64});
  std::fill_n(embeds.data<float>() + kPrompt * 64, (kText - kPrompt) * 64, 0.0F);
  return embeds;
}

/// A variant on a backend.
class Micro {
 public:
  Micro(std::string_view variant, ops::Backend& backend, DType dtype)
      : variant_(variant),
        backend_(backend),
        dtype_(dtype),
        model_(load<models::WanTransformer>(
            SeededSource(models::wan_table(micro_config(variant)), variant_ + "."),
            models::wan_table(micro_config(variant)), micro_config(variant), backend, dtype)) {}
  Micro(const nn::WeightScope& scope, std::string_view variant)
      : variant_(variant),
        backend_(scope.backend()),
        dtype_(scope.dtype()),
        model_(scope, micro_config(variant)) {}

  const models::WanTransformer& model() const { return model_; }
  Tensor upload(const Tensor& host) const { return backend_.upload(host, dtype_); }
  Tensor latents() const {
    return upload(
        seeded(variant_ + ".latents", {1, kGrid.tokens(), model_.config().token_width()}, 2));
  }
  models::WanConditioning conditioning() const {
    return model_.prepare({.prompt_embeds = upload(prompt_embeds(variant_)),
                           .timesteps = {999, 875, 13},
                           .grid = kGrid});
  }
  /// Of all steps, [N, L, 4 C].
  Tensor velocities() const {
    const models::WanConditioning given = conditioning();
    std::vector<Tensor> steps;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      steps.push_back(model_.velocity(latents(), given, step));
    }
    return ops::concat(steps, 0);
  }

 private:
  std::string variant_;
  ops::Backend& backend_;
  DType dtype_;
  models::WanTransformer model_;
};

class WanTransformerGolden : public testing::TestWithParam<std::string> {
 protected:
  ops::Backend& backend() const { return *backend_; }
  Micro micro(std::string_view variant = "t2v", DType dtype = DType::kF32) const {
    return {variant, *backend_, dtype};
  }

 private:
  std::unique_ptr<ops::Backend> backend_ = make_backend(GetParam());
};

TEST_P(WanTransformerGolden, Modulations) {
  EXPECT_LE(relative_l2(micro().conditioning().modulations, golden("t2v.modulations")), kTolerance);
}

TEST_P(WanTransformerGolden, KeysAndValuesOfTheText) {
  EXPECT_LE(relative_l2(micro().conditioning().text, golden("t2v.text")), kTolerance);
}

TEST_P(WanTransformerGolden, Velocities) {
  for (const char* variant : {"t2v", "i2v", "ti2v"}) {
    SCOPED_TRACE(variant);
    const Tensor expected = golden(fmt::format("{}.velocities", variant));
    const Tensor actual = micro(variant).velocities();
    for (std::int64_t step = 0; step < kSteps; ++step) {
      EXPECT_LE(relative_l2(step_of(actual, step), step_of(expected, step)), kTolerance) << step;
    }
  }
}

/// Keeps what the last linear layer of every block leaves in the stream.
class BlockResults final : public ops::LinearProbe {
 public:
  void on_linear(const ops::PreparedLinear& weights, const Tensor& /*x*/,
                 const ops::LinearEpilogue& /*epilogue*/, const Tensor& y) override {
    const std::string& name = weights.precision().front().name;
    if (name.ends_with("ffn.net.2")) results.push_back(ops::contiguous(y));
  }
  std::vector<Tensor> results;
};

TEST_P(WanTransformerGolden, Blocks) {
  const Micro model = micro();
  const models::WanConditioning given = model.conditioning();
  BlockResults blocks;
  backend().set_linear_probe(&blocks);
  model.model().velocity(model.latents(), given, 1);
  backend().set_linear_probe(nullptr);
  const Tensor expected = golden("t2v.blocks");
  ASSERT_EQ(blocks.results.size(), 2U);
  for (std::int64_t block = 0; block < 2; ++block) {
    EXPECT_LE(
        relative_l2(blocks.results[static_cast<std::size_t>(block)], step_of(expected, block)),
        kTolerance)
        << block;
  }
}

TEST_P(WanTransformerGolden, SamplesOfABatchDoNotMeet) {
  const Micro model = micro();
  const Tensor one = model.upload(prompt_embeds("t2v"));
  const Tensor other = model.upload(prompt_embeds("i2v"));
  const auto velocity = [&](const Tensor& embeds) {
    const auto given =
        model.model().prepare({.prompt_embeds = embeds, .timesteps = {500, 20}, .grid = kGrid});
    const std::vector<Tensor> samples(static_cast<std::size_t>(embeds.dim(0)), model.latents());
    return model.model().velocity(ops::concat(samples, 0), given, 1);
  };
  const Tensor both = velocity(ops::concat({one, other}, 0));
  EXPECT_LE(relative_l2(step_of(both, 0), velocity(one)), kTolerance);
  EXPECT_LE(relative_l2(step_of(both, 1), velocity(other)), kTolerance);
}

/// Where all timesteps are 0 it makes no difference which frame is given.
TEST_P(WanTransformerGolden, FramesHaveTimestepsOfTheirOwn) {
  const Micro model = micro("ti2v");
  const auto velocity = [&](float timestep, bool given) {
    const auto conditioning =
        model.model().prepare({.prompt_embeds = model.upload(prompt_embeds("ti2v")),
                               .timesteps = {timestep},
                               .grid = kGrid,
                               .first_frame_given = given});
    return model.model().velocity(model.latents(), conditioning, std::int64_t{0});
  };
  EXPECT_LE(relative_l2(velocity(0, true), velocity(0, false)), kTolerance);
  EXPECT_GE(relative_l2(velocity(500, true), velocity(500, false)), 100 * kTolerance);
}

/// Half again as far from float32 as diffusers is with the same tensors kept in float32.
TEST_P(WanTransformerGolden, BFloat16StaysAsCloseAsDiffusers) {
  EXPECT_LE(relative_l2(micro("t2v", DType::kBF16).velocities(), golden("t2v.velocities")),
            1.5 * to_floats(golden("t2v.bf16_error")).front());
}

/// The blocks' linear layers as ModelOpt would export them, input scales from make_micro_wan.py.
class Fp8Source final : public quant::WeightSource {
 public:
  explicit Fp8Source(const nn::TensorTable& table) : plain_(table, "t2v.") {
    for (const std::string& name : table.linears()) {
      if (!name.starts_with("blocks.")) continue;
      const float input_scale = to_floats(golden(fmt::format("fp8.{}.input_scale", name))).front();
      layers_.push_back({.name = name,
                         .stored = DType::kF8E4M3,
                         .shape = plain_.find(name + ".weight")->shape,
                         .format = quant::Format::kFp8,
                         .input_scale = input_scale,
                         .scale_source = "checkpoint"});
    }
  }
  std::string_view description() const override { return plain_.description(); }
  const std::vector<TensorInfo>& tensors() const override { return plain_.tensors(); }
  const TensorInfo* find(std::string_view name) const override { return plain_.find(name); }
  Tensor read(std::string_view name) const override { return plain_.read(name); }
  void release(const Tensor& /*tensor*/) const override {}

  std::span<const quant::LayerPlan> layers() const override { return layers_; }
  const quant::LayerPlan* find_layer(std::string_view name) const override {
    const auto found = std::ranges::find(layers_, name, &quant::LayerPlan::name);
    return found == layers_.end() ? nullptr : &*found;
  }
  quant::LinearWeight linear(std::string_view name) const override {
    const Tensor weight = read(std::string(name) + ".weight");
    const std::span values(weight.data<float>(), static_cast<std::size_t>(weight.elements()));
    const float scale = quant::fp8_scale(quant::amax(values), name);
    const Tensor codes = Tensor::host(weight.shape(), DType::kF8E4M3);
    quant::quantize_weight_e4m3(values, scale, {codes.data<std::uint8_t>(), values.size()});
    quant::LinearWeight linear;
    linear.weight = codes;
    linear.weight_scale = scale;
    linear.input_scale = find_layer(name)->input_scale;
    linear.name = name;
    linear.format = quant::Format::kFp8;
    return linear;
  }
  void check_linears(std::span<const std::string> /*names*/) const override {}
  std::string_view declared_by() const override { return {}; }
  std::vector<const TensorSource*> stored_sources() const override { return {}; }

 private:
  SeededSource plain_;
  std::vector<quant::LayerPlan> layers_;
};

/// Against the same codes in PyTorch. Sums of another order move a few inputs to a neighbouring
/// code, 2^-4 of them away, and every layer multiplies such: 3 of the first one's 9216 inputs
/// become 4692 of the last one's 11520. In float32 that stays below what PyTorch's own bfloat16
/// does; in bfloat16 it may be half again as much.
TEST_P(WanTransformerGolden, RunsInFp8) {
  const Fp8Source source(models::wan_table(micro_config("t2v")));
  const double of_torch = to_floats(golden("fp8.bf16_error")).front();
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::kF32, of_torch}, std::pair{DType::kBF16, 1.5 * of_torch}}) {
    SCOPED_TRACE(dtype_name(dtype));
    std::vector<ops::LinearPrecision> precision;
    const Micro model(nn::WeightScope(source, backend(), dtype, &precision), "t2v");
    EXPECT_LE(relative_l2(model.velocities(), golden("fp8.velocities")), tolerance);
    EXPECT_EQ(std::ranges::count(precision, DType::kF8E4M3, &ops::LinearPrecision::product), 20);
  }
}

/// The same weights, but that all products of queries and keys are made of 2^e q and 2^-e k.
class ScaledNorms final : public TensorSource {
 public:
  ScaledNorms(const TensorSource& source, int exponent) : source_(source), exponent_(exponent) {}
  std::string_view description() const override { return source_.description(); }
  const std::vector<TensorInfo>& tensors() const override { return source_.tensors(); }
  const TensorInfo* find(std::string_view name) const override { return source_.find(name); }
  Tensor read(std::string_view name) const override {
    Tensor tensor = source_.read(name);
    const bool q = name.ends_with("attn1.norm_q.weight");
    if (!q && !name.ends_with("attn1.norm_k.weight")) return tensor;
    const std::span values(tensor.data<float>(), static_cast<std::size_t>(tensor.elements()));
    for (float& value : values) value = std::ldexp(value, q ? exponent_ : -exponent_);
    return tensor;
  }
  void release(const Tensor& /*tensor*/) const override {}

 private:
  const TensorSource& source_;
  int exponent_;
};

/// Norms whose results would not fit into E4M3 give way to the softmax: bit for bit the same.
TEST_P(WanTransformerGolden, LargeNormsOfQueriesChangeNothing) {
  const SeededSource source(models::wan_table(micro_config("t2v")), "t2v.");
  const auto velocities = [&](int exponent) {
    const ScaledNorms scaled(source, exponent);
    return to_floats(Micro({scaled, backend(), DType::kBF16}, "t2v").velocities());
  };
  EXPECT_EQ(velocities(12), velocities(0));
}

/// Probabilities and values lose all but 4 bits; see CudaOps.Fp8AttentionStaysClose.
TEST_P(WanTransformerGolden, Fp8AttentionStaysClose) {
  if (!backend().traits().e4m3_attention) GTEST_SKIP() << "no FP8 attention on this backend";
  const Micro model = micro("t2v", DType::kBF16);
  const auto given = model.conditioning();
  const auto velocity = [&](ops::AttentionPrecision precision) {
    return model.model().velocity(model.latents(), given, given.at_step(1), precision);
  };
  EXPECT_LE(relative_l2(velocity(ops::AttentionPrecision::kE4m3),
                        velocity(ops::AttentionPrecision::kActivations)),
            0.06);
}

/// Channels turn with time, y and x: 22, 21 and 21 pairs, each axis by frequencies of its own.
TEST_P(WanTransformerGolden, RopeOfAVideo) {
  const ops::Rope rope = models::wan_rope({}, {.frames = 3, .height = 4, .width = 5}, backend());
  ASSERT_EQ(rope.cos.shape(), Shape({60, 64}));
  const std::vector<float> cos = to_floats(rope.cos);
  const std::vector<float> sin = to_floats(rope.sin);
  const struct {
    int token, pair, position, k, dim;
  } table[] = {{59, 0, 2, 0, 44},  {59, 21, 2, 21, 44}, {59, 22, 3, 0, 42}, {59, 42, 3, 20, 42},
               {59, 43, 4, 0, 42}, {59, 63, 4, 20, 42}, {20, 5, 1, 5, 44},  {20, 30, 0, 8, 42},
               {7, 27, 1, 5, 42},  {7, 44, 2, 1, 42}};
  for (const auto& row : table) {
    const double angle = row.position * std::pow(10000.0, -2.0 * row.k / row.dim);
    const auto at = static_cast<std::size_t>(row.token * 64 + row.pair);
    EXPECT_FLOAT_EQ(cos[at], static_cast<float>(std::cos(angle))) << row.token << " " << row.pair;
    EXPECT_FLOAT_EQ(sin[at], static_cast<float>(std::sin(angle))) << row.token << " " << row.pair;
  }
}

TEST_P(WanTransformerGolden, Refusals) {
  const Micro model = micro();
  const auto prepare = [&](const models::WanInputs& inputs) {
    return error_of([&] { model.model().prepare(inputs); });
  };
  const Tensor embeds = model.upload(prompt_embeds("t2v"));
  const struct {
    models::WanInputs inputs;
    const char* says;
  } table[] = {{{embeds, {}, kGrid}, "needs a timestep"},
               {{embeds.reshape({kText, 64}), {1}, kGrid}, "must be [B, L, D]"},
               {{embeds, {1}, {3, 0, 4}}, "3 x 0 x 4 tokens, each extent must be 1 to 1024"},
               {{embeds, {1}, {1025, 1, 1}}, "1025 x 1 x 1 tokens"},
               {{ops::concat({embeds, embeds}, 0), {1}, kGrid, true}, "one sample at a time"}};
  for (const auto& row : table) {
    EXPECT_EQ(prepare(row.inputs).code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(prepare(row.inputs).what(), HasSubstr(row.says));
  }
  const auto given = model.conditioning();
  EXPECT_THAT(error_of([&] {
                model.model().velocity(model.latents(), given, given.at_step(0).slice(-1, 0, 256));
              }).what(),
              HasSubstr("must be [B, 1792]"));
  const auto first_given = model.model().prepare({embeds, {1}, kGrid, true});
  EXPECT_THAT(error_of([&] {
                model.model().velocity(model.latents(), first_given, given.at_step(0));
              }).what(),
              HasSubstr("a row for the first frame"));
}

INSTANTIATE_TEST_SUITE_P(Backends, WanTransformerGolden, testing::ValuesIn(backends()),
                         backend_name);

}  // namespace
}  // namespace dither::golden
