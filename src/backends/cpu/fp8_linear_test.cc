#include <fmt/format.h>
#include <gmock/gmock.h>
#include <hwy/targets.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/strided.h"
#include "base/error.h"
#include "ops/ops.h"
#include "quant/fp8.h"
#include "tensor/float8.h"

namespace dither::cpu {
namespace {

using ::testing::HasSubstr;
using ::testing::Values;

/// Uniform in [-1, 1), exact in bf16; the same numbers in every backend.
class Random {
 public:
  Tensor host(const Shape& shape) {
    Tensor tensor = Tensor::host(shape, DType::kF32);
    std::uniform_real_distribution<float> uniform(-1, 1);
    float* values = tensor.data<float>();
    for (std::int64_t i = 0; i < tensor.elements(); ++i) {
      values[i] = round_to_bf16(uniform(generator_));
    }
    return tensor;
  }
  /// All codes but NaN.
  Tensor codes(const Shape& shape) {
    Tensor tensor = Tensor::host(shape, DType::kF8E4M3);
    auto* codes = reinterpret_cast<std::uint8_t*>(tensor.raw());
    for (std::int64_t i = 0; i < tensor.elements(); ++i) {
      do codes[i] = static_cast<std::uint8_t>(generator_());
      while ((codes[i] & 0x7FU) == 0x7FU);
    }
    return tensor;
  }

 private:
  std::mt19937 generator_{7};
};

/// Rows that do not lie next to each other, starting off any vector boundary.
Tensor strided(const Tensor& host, ops::Backend& backend, DType dtype) {
  Shape shape = host.shape();
  const std::int64_t cols = shape[-1];
  shape[-1] = cols + 5;
  const Tensor part = Tensor::empty(shape, dtype, backend).slice(-1, 3, 3 + cols);
  backend.copy(backend.upload(host, dtype), part);
  return part;
}

/// Restricts Highway to some instruction sets; 0: the processor's.
void choose_from(std::int64_t targets) {
  hwy::SetSupportedTargetsForTest(targets);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

class Fp8Kernels : public ::testing::TestWithParam<std::int64_t> {
 protected:
  Fp8Kernels() { choose_from(GetParam()); }
  ~Fp8Kernels() override { choose_from(0); }
};
INSTANTIATE_TEST_SUITE_P(Targets, Fp8Kernels, Values(0, HWY_AVX2, HWY_SSSE3, HWY_SCALAR));

TEST_P(Fp8Kernels, ExpandEveryCodeAndNarrowItAgain) {
  std::vector<std::uint8_t> codes(256 + 7);  // a tail too
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Tensor values = Tensor::host({static_cast<std::int64_t>(codes.size())}, dtype);
    expand_e4m3(codes.data(), values.raw(), dtype, values.elements());
    const std::vector<float> floats = to_floats(values);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(floats[i]),
                std::bit_cast<std::uint32_t>(kE4M3Values[codes[i]]))
          << "code " << i;
    }
    std::vector<std::uint8_t> again(codes.size());
    narrow_e4m3(values.raw(), dtype, again.data(), values.elements());
    EXPECT_EQ(again, codes);
  }
}

/// Every E4M3 number, every midpoint of neighbours and the floats next to both, with both signs.
std::vector<float> values_around_every_code() {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = {464,       465,       1e30F,    std::numeric_limits<float>::max(),
                               0x1p-126F, 0x1p-149F, infinity, std::nanf("")};
  for (unsigned code = 0; code < 0x7EU; ++code) {
    const float low = kE4M3Values[code];
    const float middle = (low + kE4M3Values[code + 1]) / 2;
    for (const float centre : {low, middle, kE4M3Values[code + 1]}) {
      values.push_back(centre);
      values.push_back(std::nextafter(centre, -infinity));
      values.push_back(std::nextafter(centre, infinity));
    }
  }
  const std::size_t positive = values.size();
  for (std::size_t i = 0; i < positive; ++i) values.push_back(-values[i]);
  return values;
}

TEST_P(Fp8Kernels, QuantizeActivationsToTheReferencesCodes) {
  const std::vector<float> numbers = values_around_every_code();
  const auto count = static_cast<std::int64_t>(numbers.size());
  for (const float scale : {1.0F, 0.0123F, 3.7F, 1e-30F}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Tensor x = Tensor::host({count}, dtype);
      std::vector<float> scaled = numbers;
      for (float& value : scaled) value *= scale;
      from_floats(scaled, x);
      std::vector<std::uint8_t> expected(numbers.size());
      quant::quantize_activation_e4m3(to_floats(x), scale, expected);
      for (const DType codes_dtype : {DType::kF32, DType::kBF16}) {
        const Tensor codes = Tensor::host({count}, codes_dtype);
        quantize_e4m3_rows({row_view(x), dtype, row_view(codes), codes_dtype, 1 / scale}, 0, 1);
        std::vector<std::uint8_t> actual(numbers.size());
        narrow_e4m3(codes.raw(), codes_dtype, actual.data(), count);
        for (std::size_t i = 0; i < numbers.size(); ++i) {
          ASSERT_EQ(actual[i], expected[i]) << scaled[i] << " / " << scale;
          ASSERT_EQ(to_floats(codes)[i] != to_floats(codes)[i], std::isnan(to_floats(x)[i]));
        }
      }
    }
  }
}

struct Mode {
  const char* name;
  DType dtype;
  bool native_bf16;
};

class Fp8Linear : public ::testing::TestWithParam<Mode> {
 protected:
  using Formula = std::function<Tensor(ops::Backend&, Random&)>;

  /// |fast - reference| <= absolute + relative |reference|: as FastOps in cpu_backend_test.cc.
  void compare(const Formula& formula, double absolute) {
    const auto run = [&](ops::Backend& backend) {
      Random random;
      return to_floats(formula(backend, random));
    };
    const std::vector<float> expected = run(*reference_);
    const double relative = GetParam().dtype == DType::kBF16 ? 0x1p-7 : 0x1p-21;
    for (int round = 0; round < 2; ++round) {  // the second meets cached primitives
      const std::vector<float> actual = run(*fast_);
      ASSERT_EQ(actual.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], absolute + relative * std::abs(expected[i]))
            << "element " << i << " in round " << round;
      }
    }
  }

  std::unique_ptr<ops::Backend> reference_ = make_cpu_reference_backend();
  std::unique_ptr<ops::Backend> fast_ =
      make_cpu_backend({.threads = 2, .allow_native_bf16 = GetParam().native_bf16});
};

INSTANTIATE_TEST_SUITE_P(Modes, Fp8Linear,
                         Values(Mode{"f32", DType::kF32, true}, Mode{"bf16", DType::kBF16, true},
                                Mode{"f32_widened", DType::kF32, false},
                                Mode{"bf16_widened", DType::kBF16, false}),
                         [](const auto& mode) { return mode.param.name; });

// Operands have the same codes in both backends and their products are exact, so only float32 sums
// differ from the reference: at most K roundings, each half a unit (2^-24) of a partial sum, which
// is at most K max|x_q| max|w_q|. Activations in [-1, 1) at scale 2^-6 have |x_q| <= 64, weights
// |w_q| <= 448; both times their scales below bound a term by 1 * 448 * 2^-8 = 1.75. The bound
// K (K 1.75) 2^-24 is that of the worst order; random signs stay below its square root in K, so
// K^1.5 1.75 2^-24 is asked for, doubled for the slope of the activation (at most 1.13) and a gate.
constexpr float kInputScale = 0x1p-6F;
constexpr float kWeightScale = 0x1p-8F;
double sum_error(std::int64_t k) {
  return 2 * 1.75 * std::pow(static_cast<double>(k), 1.5) * 0x1p-24;
}

struct LinearCase {
  std::int64_t batch, rows, n, k;
};

TEST_P(Fp8Linear, MeetsTheReferenceOnOddShapesWithEveryEpilogue) {
  const DType dtype = GetParam().dtype;
  for (const auto& [batch, rows, n, k] :
       {LinearCase{1, 1, 3, 1}, LinearCase{1, 1, 64, 127}, LinearCase{2, 5, 3, 33},
        LinearCase{2, 17, 127, 64}, LinearCase{1, 128, 256, 1280}, LinearCase{2, 1, 96, 16},
        LinearCase{1, 33, 100, 1001}}) {
    for (const auto activation :
         {ops::Activation::kNone, ops::Activation::kSilu, ops::Activation::kGeluTanh}) {
      SCOPED_TRACE(fmt::format("B {} L {} N {} K {}", batch, rows, n, k));
      compare(
          [&](ops::Backend& backend, Random& random) {
            const std::vector<ops::LinearShard> shards = {
                {"w", random.codes({n, k}), random.host({n}), kWeightScale, kInputScale}};
            const auto layer = backend.prepare_linear(shards, dtype);
            const Tensor x = strided(random.host({batch, rows, k}), backend, dtype);
            return ops::linear(x, *layer,
                               {activation, strided(random.host({batch, n}), backend, dtype),
                                strided(random.host({batch, rows, n}), backend, dtype)});
          },
          sum_error(k));
    }
  }
}

TEST_P(Fp8Linear, FusedShardsKeepTheirWeightScales) {
  compare(
      [&](ops::Backend& backend, Random& random) {
        const std::vector<ops::LinearShard> shards = {
            {"q", random.codes({48, 40}), random.host({48}), kWeightScale, kInputScale},
            {"k", random.codes({7, 40}), {}, kWeightScale / 3, kInputScale},
            {"v", random.codes({16, 40}), random.host({16}), kWeightScale / 5, kInputScale}};
        const auto layer = backend.prepare_linear(shards, GetParam().dtype);
        return ops::linear(backend.upload(random.host({2, 7, 40}), GetParam().dtype), *layer);
      },
      sum_error(40));
}

TEST_P(Fp8Linear, WeightOnlyFormatsAreScaled) {
  for (const bool codes : {true, false}) {
    compare(
        [&](ops::Backend& backend, Random& random) {
          const Shape shape = {33, 48};
          const std::vector<ops::LinearShard> shards = {
              {"a", codes ? random.codes(shape) : random.host(shape), {}, 0.0031F},
              {"b", codes ? random.codes(shape) : random.host(shape), random.host({33}), 0.017F}};
          const auto layer = backend.prepare_linear(shards, GetParam().dtype);
          return ops::linear(backend.upload(random.host({5, 48}), GetParam().dtype), *layer);
        },
        48 * 448 * 0.017 * 0x1p-24 * 7);
  }
}

// As above, with activations in [-1, 1): a term is at most 448 times the scale, here 2^e <= 2^2
// too.
TEST_P(Fp8Linear, WeightOnlyCodesKeepRowExponentsOnOddShapes) {
  for (const auto& [batch, rows, n, k] :
       {LinearCase{1, 1, 1, 1}, LinearCase{1, 1, 64, 127}, LinearCase{2, 5, 3, 33},
        LinearCase{2, 17, 127, 64}, LinearCase{1, 33, 100, 1001}}) {
    SCOPED_TRACE(fmt::format("B {} L {} N {} K {}", batch, rows, n, k));
    compare(
        [&](ops::Backend& backend, Random& random) {
          std::vector<ops::LinearShard> shards;
          for (int i = 0; i < 2; ++i) {
            ops::LinearShard& shard =
                shards.emplace_back(ops::LinearShard{"w", random.codes({n, k}), random.host({n})});
            for (std::int64_t row = 0; row < n; ++row) {
              shard.row_exponents.push_back(static_cast<std::int8_t>(row % 7 - 4));
            }
          }
          shards[1].row_exponents.clear();
          shards[1].weight_scale = kWeightScale;
          const auto layer = backend.prepare_linear(shards, GetParam().dtype);
          const Tensor x = strided(random.host({batch, rows, k}), backend, GetParam().dtype);
          return ops::linear(
              x, *layer,
              {ops::Activation::kGeluTanh,
               strided(random.host({batch, 2 * n}), backend, GetParam().dtype),
               strided(random.host({batch, rows, 2 * n}), backend, GetParam().dtype)});
        },
        sum_error(k) * 448 * 4 / 1.75);
  }
}

// One layer of values and one of their codes are the same numbers, down to the order of the sums.
TEST_P(Fp8Linear, WeightOnlyCodesEqualTheirValues) {
  Random random;
  const Tensor codes = random.codes({96, 144});
  const std::vector<std::int8_t> exponents(96, -3);
  Tensor values = Tensor::host(codes.shape(), DType::kF32);
  for (std::int64_t i = 0; i < values.elements(); ++i) {
    values.data<float>()[i] = kE4M3Values[static_cast<std::uint8_t>(codes.raw()[i])] / 8;
  }
  ops::LinearShard kept{"w", codes, {}};
  kept.row_exponents = exponents;
  const ops::LinearShard plain{"w", values, {}};
  const Tensor x = fast_->upload(random.host({5, 144}), GetParam().dtype);
  const auto expected =
      to_floats(ops::linear(x, *fast_->prepare_linear({&plain, 1}, GetParam().dtype)));
  const auto actual =
      to_floats(ops::linear(x, *fast_->prepare_linear({&kept, 1}, GetParam().dtype)));
  EXPECT_EQ(actual, expected);
}

TEST_P(Fp8Linear, NanOfAnActivationReachesItsRowOnly) {
  Random random;
  const std::vector<ops::LinearShard> shards = {
      {"w", random.codes({20, 24}), {}, kWeightScale, kInputScale}};
  const Tensor host = random.host({3, 24});
  host.data<float>()[24 + 5] = std::nanf("");
  const auto layer = fast_->prepare_linear(shards, GetParam().dtype);
  const auto y = to_floats(ops::linear(fast_->upload(host, GetParam().dtype), *layer));
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 20 == 1) << i;
}

TEST_P(Fp8Linear, RecordsSayWhatRuns) {
  Random random;
  const std::vector<ops::LinearShard> fp8 = {{"q", random.codes({16, 32}), {}, 0.5F, kInputScale},
                                             {"k", random.codes({32, 32}), {}, 0.25F, kInputScale}};
  const auto layer = fast_->prepare_linear(fp8, GetParam().dtype);
  ASSERT_EQ(layer->precision().size(), 2U);
  const ops::LinearPrecision& k = layer->precision()[1];
  EXPECT_EQ(k.name, "k");
  EXPECT_EQ(k.stored, DType::kF8E4M3);
  EXPECT_EQ(k.resident, DType::kF8E4M3);
  EXPECT_EQ(k.product, DType::kF8E4M3);
  EXPECT_THAT(k.kernel, HasSubstr("onednn e4m3 as "));
  EXPECT_EQ(k.weight_scale, 0.25F);
  EXPECT_EQ(k.input_scale, kInputScale);

  const std::vector<ops::LinearShard> plain = {{"p", random.host({16, 32}), {}}};
  const auto other = fast_->prepare_linear(plain, GetParam().dtype);
  EXPECT_EQ(other->precision()[0].stored, DType::kF32);
  const DType product = other->precision()[0].product;  // the processor may lack bfloat16
  if (!GetParam().native_bf16 || GetParam().dtype == DType::kF32) {
    EXPECT_EQ(product, DType::kF32);
  }
  EXPECT_EQ(other->precision()[0].resident, product);
  EXPECT_EQ(other->precision()[0].kernel, product == DType::kBF16 ? "onednn bf16" : "onednn f32");
  EXPECT_EQ(reference_->prepare_linear(fp8, GetParam().dtype)->precision()[0].kernel,
            "reference e4m3");
}

TEST_P(Fp8Linear, WeightsStayOneByteEach) {
  Random random;
  for (const auto& input_scale : {std::optional(kInputScale), std::optional<float>()}) {
    const std::vector<ops::LinearShard> shards = {
        {"w", random.codes({256, 1024}), random.host({256}), kWeightScale, input_scale}};
    const auto layer = fast_->prepare_linear(shards, GetParam().dtype);
    const auto bias = static_cast<std::size_t>(GetParam().dtype == DType::kBF16 ? 2 : 4);
    EXPECT_LE(layer->resident_bytes(), 256 * 1024 + 256 * (4 + std::max<std::size_t>(bias, 4)));
  }
}

TEST_P(Fp8Linear, RecordsOfWeightOnlyCodesSayWhatRuns) {
  Random random;
  const std::vector<ops::LinearShard> shards = {{"w", random.codes({16, 32}), {}, 0.5F}};
  for (ops::Backend* backend : {fast_.get(), reference_.get()}) {
    const auto layer = backend->prepare_linear(shards, GetParam().dtype);
    const ops::LinearPrecision& w = layer->precision()[0];
    EXPECT_EQ(w.stored, DType::kF8E4M3);
    EXPECT_EQ(w.resident, backend == fast_.get() ? DType::kF8E4M3 : DType::kF32);
    EXPECT_NE(w.product, DType::kF8E4M3);
    EXPECT_THAT(w.kernel, HasSubstr(", e4m3 weights"));
    EXPECT_EQ(w.weight_scale, 0.5F);
    EXPECT_FALSE(w.input_scale);
    EXPECT_FALSE(layer->e4m3_input());
  }
}

TEST_P(Fp8Linear, ActivationsOfAnotherDtypeAreRefused) {
  Random random;
  const std::vector<ops::LinearShard> shards = {{"w", random.host({4, 8}), {}}};
  const auto in_bf16 = fast_->prepare_linear(shards, DType::kBF16);
  if (in_bf16->precision()[0].product != DType::kBF16) return;  // all are float32: nothing differs
  const DType other = GetParam().dtype == DType::kF32 ? DType::kBF16 : DType::kF32;
  const auto layer = fast_->prepare_linear(shards, other);
  EXPECT_THROW(ops::linear(fast_->upload(random.host({2, 8}), GetParam().dtype), *layer), Error);
}

struct Refusal {
  std::vector<ops::LinearShard> shards;
  std::vector<std::string> words;
};

TEST(Fp8LinearErrors, NameTheShards) {
  Random random;
  const Tensor codes = random.codes({2, 4});
  const Tensor wide = random.host({2, 4});
  const float nan = std::nanf("");
  const std::vector<Refusal> refusals = {
      {{{"q", codes, {}, 1.F, 1.F}, {"k", wide, {}}}, {"'q'", "'k'", "F32"}},
      {{{"q", codes, {}, 1.F, 1.F}, {"k", codes, {}, 1.F}}, {"'q'", "'k'", "without"}},
      {{{"q", codes, {}, 1.F}, {"k", wide, {}}}, {"'q'", "'k'", "without", "F32"}},
      {{{"q", codes, {}, 1.F, {}, {1}}}, {"'q'", "1 row_exponents"}},
      {{{"q", codes, {}, 1.F, 1.F, {1, 1}}}, {"'q'", "2 row_exponents"}},
      {{{"q", wide, {}, 1.F, {}, {1, 1}}}, {"'q'", "2 row_exponents"}},
      {{{"q", codes, {}, 1.F, 1.F}, {"k", codes, {}, 1.F, 2.F}}, {"'q'", "'k'", "input_scale 1"}},
      {{{"q", codes, {}, {}, 1.F}}, {"'q'", "no weight_scale"}},
      {{{"q", codes, {}, nan, 1.F}}, {"'q'", "weight_scale nan"}},
      {{{"q", codes, {}, 0.F, 1.F}}, {"'q'", "weight_scale 0"}},
      {{{"q", codes, {}, 1.F, -1.F}}, {"'q'", "input_scale -1"}},
      {{{"q", codes, {}, 1.F, 0x1p-149F}}, {"'q'", "reciprocal"}},
      {{{"q", codes, random.host({3}), 1.F, 1.F}}, {"'q'", "bias"}},
      {{}, {"no weights"}},
  };
  for (const bool fast : {false, true}) {
    const auto backend = fast ? make_cpu_backend() : make_cpu_reference_backend();
    for (const auto& [shards, words] : refusals) {
      try {
        backend->prepare_linear(shards, DType::kF32);
        ADD_FAILURE() << "accepted: " << ::testing::PrintToString(words);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
        for (const std::string& word : words) EXPECT_THAT(error.what(), HasSubstr(word));
      }
    }
  }
}

TEST(PreparedWeights, OfAnotherBackendAreRefused) {
  const auto fast = make_cpu_backend();
  const auto reference = make_cpu_reference_backend();
  Random random;
  const std::vector<ops::LinearShard> shards = {{"w", random.host({4, 8}), {}}};
  const auto foreign = [&](ops::Backend& own, ops::Backend& other) {
    const auto layer = other.prepare_linear(shards, DType::kF32);
    const auto image = other.prepare_conv2d({"c", random.host({2, 3, 1, 1}), {}}, DType::kF32);
    const Tensor x = own.upload(random.host({2, 8}), DType::kF32);
    const Tensor pixels = own.upload(random.host({1, 2, 2, 3}), DType::kF32);
    EXPECT_THROW(ops::linear(x, *layer), Error);
    EXPECT_THROW(ops::conv2d(pixels, *image), Error);
  };
  foreign(*fast, *reference);
  foreign(*reference, *fast);
}

}  // namespace
}  // namespace dither::cpu
