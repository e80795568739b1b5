// The ops of video autoencoders on the CUDA backend against the reference backend.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "cuda/cuda_ops.h"

namespace dither {
namespace {

using namespace cuda_test;  // NOLINT(google-build-using-namespace)

class CudaVideoOps : public CudaOps {};

INSTANTIATE_TEST_SUITE_P(Dtypes, CudaVideoOps, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& dtype) { return std::string(dtype_name(dtype.param)); });

TEST_P(CudaVideoOps, ChannelNorm) {
  for (const std::int64_t width : {1, 2, 15, 16, 96, 127, 192, 384, 640, 1024, 1280, 3000}) {
    for (const bool aligned : {true, false}) {
      SCOPED_TRACE(fmt::format("C {} aligned {}", width, aligned));
      for (const auto activation : {ops::Activation::kNone, ops::Activation::kSilu}) {
        compare(
            [&](Inputs& in) {
              const Shape shape = {1, 3, 5, 7, width};
              const Tensor x = aligned ? in.tensor(shape) : in.strided(shape);
              return ops::channel_norm(x, in.tensor({width}), activation);
            },
            0x1p-19);
      }
    }
  }
}

TEST_P(CudaVideoOps, ChannelNormWritesIntoAVideo) {
  for (const std::int64_t room : {96, 128}) {
    compare(
        [&](Inputs& in) {
          const Tensor video = in.tensor({1, 5, 3, 4, room});
          const Tensor x = in.tensor({1, 3, 3, 4, 96});
          ops::channel_norm(x, in.tensor({96}), ops::Activation::kSilu,
                            {.tensor = video.slice(1, 2, 5).slice(-1, 0, 96)});
          return video;
        },
        0x1p-19);
  }
}

TEST_P(CudaVideoOps, ChannelNormOfZerosIsZero) {
  Inputs in(*cuda_, GetParam());
  const Tensor zeros = ops::affine(in.tensor({7, 96}), 0, 0);
  for (const float value :
       to_floats(ops::channel_norm(zeros, in.tensor({96}), ops::Activation::kNone))) {
    EXPECT_EQ(value, 0);
  }
}

struct Conv3dCase {
  std::int64_t batch, frames, h, w, c_in, c_out;
  std::array<std::int64_t, 3> kernel;
  int stride_t;
  std::array<int, 4> padding;
  bool bias, residual;
};

Tensor not_numbers(const Shape& shape) {
  Tensor tensor = Tensor::host(shape, DType::kF32);
  std::fill_n(tensor.data<float>(), tensor.elements(), std::numeric_limits<float>::quiet_NaN());
  return tensor;
}

TEST_P(CudaVideoOps, Conv3d) {
  for (const auto& c : {Conv3dCase{1, 3, 5, 7, 3, 5, {3, 3, 3}, 1, {1, 1, 1, 1}, true, true},
                        Conv3dCase{2, 4, 16, 12, 16, 96, {3, 3, 3}, 1, {1, 1, 1, 1}, true, false},
                        Conv3dCase{1, 6, 26, 30, 96, 96, {3, 3, 3}, 1, {1, 1, 1, 1}, true, true},
                        Conv3dCase{1, 3, 16, 20, 32, 3, {3, 3, 3}, 1, {1, 1, 1, 1}, true, false},
                        Conv3dCase{1, 5, 4, 9, 24, 48, {3, 1, 1}, 1, {0, 0, 0, 0}, true, false},
                        Conv3dCase{1, 5, 6, 8, 64, 64, {3, 1, 1}, 2, {0, 0, 0, 0}, true, true},
                        Conv3dCase{2, 6, 3, 3, 17, 33, {3, 1, 1}, 2, {0, 0, 0, 0}, false, true}}) {
    const auto& [kt, kh, kw] = c.kernel;
    SCOPED_TRACE(fmt::format("{} frames {} x {}, {} -> {}", c.frames, c.h, c.w, c.c_in, c.c_out));
    compare(
        [&](Inputs& in) {
          ops::Conv3dWeights weights;
          weights.name = "conv";
          weights.weight = in.host({c.c_out, c.c_in, kt, kh, kw});
          if (c.bias) weights.bias = in.host({c.c_out});
          weights.stride_t = c.stride_t;
          weights.padding = c.padding;
          const auto conv = in.backend().prepare_conv3d(weights, in.dtype());
          const Tensor x = in.tensor({c.batch, c.frames, c.h, c.w, c.c_in});
          const Shape shape = {c.batch, conv->out_frames(c.frames), conv->out_h(c.h),
                               conv->out_w(c.w), c.c_out};
          return ops::conv3d(x, *conv, c.residual ? in.tensor(shape) : Tensor{});
        },
        2 * sum_error(c.c_in * kt * kh * kw), sum_bound(c.c_in * kt * kh * kw));
  }
}

// A caller may leave room between pixels, with anything in it, the width that the backend wants.
TEST_P(CudaVideoOps, Conv3dOfPixelsWithRoom) {
  for (const std::int64_t channels : {64, 72, 96, 160, 192}) {
    SCOPED_TRACE(channels);
    const std::int64_t room = cuda_->conv3d_row_channels(channels, GetParam());
    EXPECT_EQ(room, bf16() && channels % 64 == 32 ? channels + 32 : channels);
    compare(
        [&](Inputs& in) {
          ops::Conv3dWeights weights;
          weights.name = "conv";
          weights.weight = in.host({40, channels, 3, 3, 3});
          weights.bias = in.host({40});
          weights.padding = {1, 1, 1, 1};
          const auto conv = in.backend().prepare_conv3d(weights, in.dtype());
          const Tensor x = in.tensor({1, 4, 5, 7, channels});
          const std::int64_t row = in.backend().conv3d_row_channels(channels, in.dtype());
          const Tensor wide = in.backend().upload(not_numbers({1, 4, 5, 7, row}), in.dtype());
          ops::copy(x, wide.slice(-1, 0, channels));
          return ops::conv3d(wide, *conv);
        },
        2 * sum_error(27 * channels), sum_bound(27 * channels));
  }
}

// The decoder's convolutions over time, at 832 x 480: cuDNN takes the video as it is. Were its
// frames made channels of an image, they would be copied.
TEST_P(CudaVideoOps, TheDecodersConvolutionsCopyNothing) {
  Inputs in(*cuda_, GetParam());
  for (const auto& c :
       {Conv3dCase{1, 3, 60, 104, 384, 384, {3, 3, 3}, 1, {1, 1, 1, 1}, true, true},
        Conv3dCase{1, 4, 120, 208, 192, 384, {3, 3, 3}, 1, {1, 1, 1, 1}, true, false},
        Conv3dCase{1, 6, 240, 416, 192, 192, {3, 3, 3}, 1, {1, 1, 1, 1}, true, true},
        Conv3dCase{1, 6, 480, 832, 96, 96, {3, 3, 3}, 1, {1, 1, 1, 1}, true, true}}) {
    const auto& [kt, kh, kw] = c.kernel;
    ops::Conv3dWeights weights;
    weights.name = "conv";
    weights.weight = in.host({c.c_out, c.c_in, kt, kh, kw});
    weights.bias = in.host({c.c_out});
    weights.padding = c.padding;
    const auto conv = cuda_->prepare_conv3d(weights, GetParam());
    const Tensor like = in.tensor({1});
    const std::int64_t row = cuda_->conv3d_row_channels(c.c_in, GetParam());
    const Tensor x = ops::empty_like(like, {c.batch, c.frames, c.h, c.w, row});
    const Shape shape = {c.batch, conv->out_frames(c.frames), c.h, c.w, c.c_out};
    const Tensor residual = c.residual ? ops::empty_like(like, shape) : Tensor();
    std::string names;
    for (const auto& kernel : cuda_->trace([&] { ops::conv3d(x, *conv, residual); })) {
      names += kernel.name + "; ";
    }
    EXPECT_EQ(names.find("copy_units"), std::string::npos) << names;
    RecordProperty(fmt::format("{} to {} channels", c.c_in, c.c_out), names);
  }
}

}  // namespace
}  // namespace dither
