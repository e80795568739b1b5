#include "tensor/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::HasSubstr;
using ::testing::TestWithParam;
using ::testing::Values;

constexpr std::int64_t kHuge = std::int64_t{1} << 62;

/// Elements 0, 1, 2, ... as I32.
Tensor iota(const Shape& shape) {
  Tensor tensor = Tensor::host(shape, DType::kI32);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    tensor.data<std::int32_t>()[i] = static_cast<std::int32_t>(i);
  }
  return tensor;
}

std::int32_t at(const Tensor& tensor, const Dims& index) {
  std::int64_t offset = 0;
  for (int i = 0; i < index.size(); ++i) offset += index[i] * tensor.strides()[i];
  return tensor.data<std::int32_t>()[offset];
}

TEST(Dims, IndexesFromBothEnds) {
  const Dims dims = {2, 3, 5};
  EXPECT_EQ(dims[0], 2);
  EXPECT_EQ(dims[-1], 5);
  EXPECT_EQ(dims.back(), 5);
  EXPECT_EQ(to_string(dims), "[2, 3, 5]");
  EXPECT_EQ(to_string(Dims{}), "[]");
  EXPECT_FALSE((dims == Dims{2, 3}));
  EXPECT_THAT(error_of([&] { (void)dims[3]; }).what(), HasSubstr("dimension 3 of a tensor with 3"));
  EXPECT_THAT(error_of([&] { (void)dims[-4]; }).what(), HasSubstr("dimension -4"));
  EXPECT_EQ(error_of([] { Dims{1, 1, 1, 1, 1, 1, 1, 1, 1}; }).code(), ErrorCode::kInvalidArgument);
}

TEST(ElementCount, MultipliesExtents) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({2, 3}), 6);
  EXPECT_EQ(element_count({4, 0, 2}), 0);
}

class InvalidShape : public TestWithParam<Shape> {};
TEST_P(InvalidShape, IsRefused) {
  EXPECT_EQ(error_of([] { element_count(GetParam()); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of([] { Tensor::host(GetParam(), DType::kU8); }).code(),
            ErrorCode::kInvalidArgument);
}
INSTANTIATE_TEST_SUITE_P(Table, InvalidShape,
                         Values(Shape{-1}, Shape{0, -1}, Shape{kHuge, 4}, Shape{0, kHuge, 4},
                                Shape{kHuge, 4, 0}));

TEST(DTypes, NamesRoundTrip) {
  for (int i = 0; i <= static_cast<int>(DType::kF4E2M1); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(parse_dtype("f32"), std::nullopt);
  EXPECT_EQ(dtype_bits(DType::kF4E2M1), 4);
  EXPECT_EQ(dtype_bits(DType::kF6E3M2), 6);
  EXPECT_EQ(dtype_bits(DType::kBF16), 16);
  EXPECT_EQ(dtype_bits(DType::kC64), 64);
}

TEST(Tensor, HostMemoryIsZeroAndAligned) {
  const Tensor tensor = Tensor::host({3, 5}, DType::kF32);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 64, 0U);
  EXPECT_EQ(tensor.bytes(), 60U);
  EXPECT_EQ(tensor.device(), nullptr);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(tensor.data<float>()[i], 0.0F);
  EXPECT_EQ(Tensor::host({3}, DType::kF4E2M1).bytes(), 2U);
  EXPECT_EQ(to_string(tensor), "F32 [3, 5]");
  EXPECT_EQ(to_string(Tensor()), "(absent)");
}

TEST(Tensor, ViewsStayInsideTheStorage) {
  const auto storage = Tensor::host({16}, DType::kU8).storage();
  EXPECT_EQ(Tensor::view(storage, 8, {2}, DType::kF32).raw(), storage->data() + 8);
  EXPECT_NO_THROW(Tensor::view(storage, 16, {0}, DType::kF32));
  const auto refused = [&](std::int64_t offset, const Shape& shape) {
    return error_of([&] { Tensor::view(storage, offset, shape, DType::kF32); }).code();
  };
  EXPECT_EQ(refused(9, {2}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(-4, {1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(std::numeric_limits<std::int64_t>::max(), {1}), ErrorCode::kInvalidArgument);
}

TEST(Tensor, SlicePermuteUnflattenAddressTheSameElements) {
  const Tensor whole = iota({2, 6, 4});
  const Tensor part = whole.slice(1, 2, 5);
  EXPECT_EQ(to_string(part), "I32 [2, 3, 4]");
  EXPECT_EQ(at(part, {1, 0, 3}), at(whole, {1, 2, 3}));
  EXPECT_FALSE(part.contiguous());
  EXPECT_EQ(part.bytes(), 2U * 3 * 4 * 4);

  EXPECT_EQ(to_string(part.at(1)), "I32 [3, 4]");
  EXPECT_EQ(at(part.at(1), {2, 3}), at(whole, {1, 4, 3}));

  const Tensor turned = part.permute({2, 0, 1});
  EXPECT_EQ(to_string(turned), "I32 [4, 2, 3]");
  EXPECT_EQ(at(turned, {3, 1, 2}), at(whole, {1, 4, 3}));

  const Tensor split = whole.permute({0, 2, 1}).unflatten(-1, 2, 3);
  EXPECT_EQ(to_string(split), "I32 [2, 4, 2, 3]");
  EXPECT_EQ(at(split, {1, 3, 1, 2}), at(whole, {1, 5, 3}));
}

TEST(Tensor, ReshapeInfersOneExtent) {
  const Tensor tensor = iota({2, 6});
  EXPECT_EQ(to_string(tensor.reshape({-1, 3})), "I32 [4, 3]");
  EXPECT_EQ(to_string(tensor.reshape({12})), "I32 [12]");
  EXPECT_EQ(to_string(Tensor::host({0, 3}, DType::kU8).reshape({-1, 3})), "U8 [0, 3]");
}

TEST(Tensor, ContiguousIgnoresExtentsOfOneAndEmptyTensors) {
  EXPECT_TRUE(iota({4, 1, 8}).slice(0, 1, 2).permute({1, 0, 2}).contiguous());
  EXPECT_TRUE(iota({2, 3}).slice(1, 0, 0).contiguous());
  EXPECT_FALSE(iota({2, 3}).permute({1, 0}).contiguous());
}

struct Refused {
  const char* name;
  std::function<void()> action;
  ErrorCode code = ErrorCode::kInvalidArgument;
};
class TensorRefuses : public TestWithParam<Refused> {};
TEST_P(TensorRefuses, BadView) { EXPECT_EQ(error_of(GetParam().action).code(), GetParam().code); }

INSTANTIATE_TEST_SUITE_P(
    Table, TensorRefuses,
    Values(Refused{"SlicePastTheEnd", [] { iota({4}).slice(0, 2, 5); }},
           Refused{"SliceBackwards", [] { iota({4}).slice(0, 3, 2); }},
           Refused{"SliceNegative", [] { iota({4}).slice(0, -1, 2); }},
           Refused{"AtPastTheEnd", [] { iota({4, 2}).at(4); }},
           Refused{"AtOfANumber", [] { iota({}).at(0); }},
           Refused{"SliceNoSuchDimension", [] { iota({4}).slice(1, 0, 0); }},
           Refused{"SlicePacked", [] { Tensor::host({4}, DType::kF4E2M1).slice(0, 0, 2); },
                   ErrorCode::kUnsupported},
           Refused{"PermuteTwice", [] { iota({2, 3}).permute({0, 0}); }},
           Refused{"PermuteTooFew", [] { iota({2, 3}).permute({0}); }},
           Refused{"PermuteTooMany", [] { iota({2, 3}).permute({0, 1, 1}); }},
           Refused{"PermuteNegative", [] { iota({2, 3}).permute({0, -1}); }},
           Refused{"PermutePastTheEnd", [] { iota({2, 3}).permute({0, 64}); }},
           Refused{"PermutePacked", [] { Tensor::host({2, 4}, DType::kF4E2M1).permute({1, 0}); },
                   ErrorCode::kUnsupported},
           Refused{"ReshapeCount", [] { iota({2, 3}).reshape({4}); }},
           Refused{"ReshapeRemainder", [] { iota({2, 3}).reshape({-1, 4}); }},
           Refused{"ReshapeTwoUnknown", [] { iota({2, 3}).reshape({-1, -1}); }},
           Refused{"ReshapeStrided", [] { iota({2, 3}).permute({1, 0}).reshape({6}); }},
           Refused{"UnflattenCount", [] { iota({6}).unflatten(0, 4, 2); }},
           Refused{"UnflattenNegative", [] { iota({6}).unflatten(0, -2, -3); }},
           Refused{"UnflattenOverflow", [] { iota({0}).unflatten(0, kHuge, 4); }}),
    [](const auto& row) { return std::string(row.param.name); });

struct RowCase {
  const char* name;
  std::function<Tensor()> make;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t row_stride;
};
class RowViews : public TestWithParam<RowCase> {};
TEST_P(RowViews, CollapseLeadingDimensions) {
  const Tensor tensor = GetParam().make();
  ASSERT_TRUE(is_row_view(tensor));
  const RowView view = row_view(tensor);
  EXPECT_EQ(view.rows, GetParam().rows);
  EXPECT_EQ(view.cols, GetParam().cols);
  EXPECT_EQ(view.row_stride, GetParam().row_stride);
  EXPECT_EQ(view.data, tensor.raw());
}
INSTANTIATE_TEST_SUITE_P(
    Table, RowViews,
    Values(RowCase{"Scalar", [] { return iota({}); }, 1, 1, 1},
           RowCase{"Vector", [] { return iota({5}); }, 1, 5, 5},
           RowCase{"Matrix", [] { return iota({3, 5}); }, 3, 5, 5},
           RowCase{"Batch", [] { return iota({2, 3, 5}); }, 6, 5, 5},
           RowCase{"SlicedColumns", [] { return iota({2, 3, 8}).slice(2, 2, 4); }, 6, 2, 8},
           RowCase{"SlicedRowsOfOneBatch", [] { return iota({1, 6, 4}).slice(1, 2, 4); }, 2, 4, 4},
           RowCase{"EveryOtherRow", [] { return iota({6, 4}).unflatten(0, 3, 2).slice(1, 0, 1); },
                   3, 4, 8},
           RowCase{"EmptySlice", [] { return iota({2, 3, 4}).slice(1, 0, 0); }, 0, 4, 4}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(RowViews, RefuseWhatDoesNotCollapse) {
  for (const Tensor& tensor : {iota({3, 5}).permute({1, 0}), iota({2, 6, 4}).slice(1, 0, 3)}) {
    EXPECT_FALSE(is_row_view(tensor));
    EXPECT_THAT(error_of([&] { row_view(tensor); }).what(), HasSubstr("is not a matrix of rows"));
  }
}

}  // namespace
}  // namespace dither
