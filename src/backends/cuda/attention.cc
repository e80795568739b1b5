#include "backends/cuda/attention.h"

#include <algorithm>
#include <optional>

#include "backends/cuda/kernels/flash_attention.h"
#include "backends/cuda/kernels/norm_rope.h"
#include "backends/cuda/kernels/quantize.h"
#include "backends/cuda/kernels/softmax.h"
#include "base/error.h"

namespace dither::cuda {
namespace {

/// Scores that are in memory at a time. Pieces that stay in the L2 cache, 512 of 16384 queries,
/// would leave their product with 512 channels of values 8 tiles of 128 x 256 for 132
/// multiprocessors; 8192 are 128 tiles.
constexpr std::int64_t kMaxScores = std::int64_t{1} << 27;

/// Fewer keys than this are too few tiles for our own kernel to get going: cuDNN's is faster.
constexpr std::int64_t kFlashKeys = 1024;

HeadsView heads_view(const Tensor& tensor) {
  const std::int64_t tokens = tensor.dim(1);
  const std::int64_t token_stride = tensor.strides()[1];
  return {.data = tensor.raw(),
          .tokens = tokens,
          .token_stride = token_stride,
          .head_stride = tensor.strides()[2],
          // Of one sample it may be anything.
          .batch_stride = tensor.dim(0) > 1 ? tensor.strides()[0] : tokens * token_stride};
}

FlashAttentionArgs flash_args(const ops::AttentionOperands& in,
                              const ops::AttentionOptions& options, const Tensor& y) {
  const auto& first = options.first_codes;
  return {.q = heads_view(in.q),
          .k = heads_view(in.k),
          .batch = in.q.dim(0),
          .heads = in.q.dim(2),
          .scale = options.scale,
          .y = row_view(y),
          .y_reciprocal = options.out.e4m3_scale ? 1 / *options.out.e4m3_scale : 0,
          .first_queries = first ? first->tokens : 0,
          .first_reciprocal = first ? 1 / first->e4m3_scale : 0};
}

/// All heads of one sample of q, k or v [B, L, H, D], from token `first` on, as a batch of [tokens,
/// D] matrices.
Matrix heads_of(const Tensor& tensor, std::int64_t index, std::int64_t first, std::int64_t tokens) {
  const auto bytes = static_cast<std::int64_t>(dtype_bits(tensor.dtype()) / 8);
  return {.data = tensor.at(index).raw() + first * tensor.strides()[1] * bytes,
          .dtype = tensor.dtype(),
          .rows = tokens,
          .cols = tensor.dim(3),
          .row_stride = tensor.strides()[1],
          .batch_stride = tensor.strides()[2]};
}

}  // namespace

ValueBlocks value_blocks(const ops::AttentionOperands& heads) {
  if (!heads.v_scale.defined() || heads.v_scale.rank() == 1) return {};
  return {.codes = heads.v.data<std::uint8_t>(),
          .scales = heads.v_scale.data<float>(),
          .blocks = heads.v.dim(2)};
}

ops::E4m3Values e4m3_values(const Shape& heads) {
  const std::int64_t keys = heads[1];
  if (heads[3] != kFlashHeadDim || keys < kFlashKeys) return {heads, {kScaleElements}};
  const std::int64_t blocks = count_value_blocks(keys);
  return {{heads[0], heads[2], blocks, kValueBlockBytes},
          {heads[0], heads[2], blocks, kValueScales}};
}

void AttentionKernels::run(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                           const Tensor& y) {
  const bool codes = in.q.dtype() == DType::kF8E4M3;
  const bool writes_codes = codes && (value_blocks(in).codes != nullptr || !options.first_codes);
  if (!codes && flash(in, options, y)) return;
  if (options.out.e4m3_scale && !writes_codes) {
    const Tensor values = Tensor::empty(y.shape(), codes ? DType::kBF16 : in.q.dtype(), backend_);
    ops::AttentionOptions activations = options;
    activations.out = {};
    activations.first_codes = std::nullopt;
    run(in, activations, values);
    return quantize(values, options, y);
  }
  if (codes) return run_codes(in, options, y);
  write(in, options, y);
}

void AttentionKernels::quantize(const Tensor& values, const ops::AttentionOptions& options,
                                const Tensor& y) {
  const auto part = [&](const Tensor& from, const Tensor& to, float scale) {
    if (from.elements() == 0) return;
    launch_quantize_e4m3({.x = row_view(from),
                          .codes = row_view(to),
                          .dtype = values.dtype(),
                          .reciprocal = 1 / scale},
                         stream_);
  };
  if (!options.first_codes) return part(values, y, *options.out.e4m3_scale);
  const auto [tokens, first_scale] = *options.first_codes;
  for (std::int64_t b = 0; b < y.dim(0); ++b) {
    const auto tokens_of = [&](const Tensor& tensor, std::int64_t begin, std::int64_t end) {
      return tensor.at(b).slice(0, begin, end);
    };
    part(tokens_of(values, 0, tokens), tokens_of(y, 0, tokens), first_scale);
    part(tokens_of(values, tokens, y.dim(1)), tokens_of(y, tokens, y.dim(1)),
         *options.out.e4m3_scale);
  }
}

/// Our own kernel, which writes codes too, where it takes the attention and is faster.
bool AttentionKernels::flash(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                             const Tensor& y) {
  const bool suits = in.q.dtype() == DType::kBF16 && in.q.dim(3) == kFlashHeadDim &&
                     in.k.dim(1) >= kFlashKeys && !options.causal && !options.bias.defined() &&
                     y.elements() > 0;
  if (!suits) return false;
  FlashAttentionArgs args = flash_args(in, options, y);
  const HeadsView v = heads_view(in.v);
  if (!flash_attention_fits(args, DType::kBF16) || !flash_values_fit(v)) return false;
  args.workspace = workspace(flash_piece_bytes(args));
  launch_flash_attention(args, v, stream_);
  return true;
}

void AttentionKernels::flash_codes(const ops::AttentionOperands& in,
                                   const ops::AttentionOptions& options, const Tensor& y) {
  if (y.elements() == 0) return;
  const auto attend = [&](FlashAttentionArgs args) {
    args.workspace = workspace(flash_piece_bytes_e4m3(args));
    launch_flash_attention_e4m3(args, value_blocks(in), stream_);
  };
  const FlashAttentionArgs args = flash_args(in, options, y);
  if (flash_attention_fits(args, DType::kF8E4M3)) return attend(args);
  // Where 8 elements of y cannot be written at once.
  const Tensor aligned = Tensor::empty(y.shape(), y.dtype(), backend_);
  attend(flash_args(in, options, aligned));
  backend_.copy(aligned, y);
}

FlashWorkspace AttentionKernels::workspace(std::int64_t piece_bytes) {
  if (piece_bytes == 0) return {};
  if (!arrived_.defined()) {
    const Tensor zeros = Tensor::host({flash_counters()}, DType::kU32);
    std::fill_n(zeros.data<std::uint32_t>(), zeros.elements(), 0U);
    arrived_ = backend_.upload(zeros, zeros.dtype());
  }
  return {.pieces = static_cast<float4*>(scratch_(static_cast<std::size_t>(piece_bytes))),
          .arrived = arrived_.data<std::uint32_t>()};
}

void AttentionKernels::run_codes(const ops::AttentionOperands& in,
                                 const ops::AttentionOptions& options, const Tensor& y) {
  const bool blocks = value_blocks(in).codes != nullptr;
  if (options.causal || options.bias.defined() || !(blocks || CudnnAttention::supports_fp8(in))) {
    throw Error(ErrorCode::kUnsupported,
                "cuda: an FP8 attention has neither bias nor causal mask, and a head_dim that is a "
                "multiple of 16, at most 128");
  }
  if (blocks) return flash_codes(in, options, y);
  const float* const v_scale = in.v_scale.data<float>();
  const std::optional<float> wanted = options.out.e4m3_scale;
  const Tensor unused = Tensor::empty({kScaleElements}, DType::kF32, backend_);
  const Fp8AttentionScales scales{
      .descale_q = constants_.scalar(1),
      .descale_k = constants_.scalar(1),
      .descale_v = v_scale,
      .scale_s = constants_.scalar(kFp8ProbabilityScale),
      .descale_s = constants_.scalar(1 / kFp8ProbabilityScale),
      // A mean of values is no larger than the largest of them: its scale serves the result too.
      .scale_o = wanted ? constants_.scalar(1 / *wanted) : v_scale + kReciprocalElement,
      .amax_s = unused.data<float>(),
      .amax_o = unused.data<float>() + kReciprocalElement};
  // Hopper's kernel writes codes; a reader of activations gets them expanded.
  const Tensor codes = wanted ? y : Tensor::empty(y.shape(), DType::kF8E4M3, backend_);
  const RowView rows = row_view(codes);
  fused_.run_fp8(in, options.scale, scales, rows.data, rows.row_stride,
                 rows.row_stride * codes.dim(1));
  if (wanted) return;
  const Tensor values = y.contiguous() ? y : Tensor::empty(y.shape(), y.dtype(), backend_);
  launch_expand_e4m3({.codes = codes.data<std::uint8_t>(),
                      .values = values.raw(),
                      .dtype = y.dtype(),
                      .count = y.elements(),
                      .device_scale = v_scale},
                     stream_);
  if (!y.contiguous()) backend_.copy(values, y);
}

void AttentionKernels::write(const ops::AttentionOperands& in, const ops::AttentionOptions& options,
                             const Tensor& y) {
  if (y.elements() == 0) return;
  const RowView rows = row_view(y);
  if (CudnnAttention::supports(in, options) && rows.row_stride % 8 == 0) {
    fused_.run(in, options, rows.data, rows.row_stride, rows.row_stride * y.dim(1));
  } else {
    unfused(in, options, y);
  }
}

void AttentionKernels::unfused(const ops::AttentionOperands& in,
                               const ops::AttentionOptions& options, const Tensor& y) {
  const std::int64_t queries = in.q.dim(1);
  const std::int64_t keys = in.k.dim(1);
  const std::int64_t heads = in.q.dim(2);
  const std::int64_t head_dim = in.q.dim(3);
  const DType dtype = in.q.dtype();
  const std::int64_t chunk = std::clamp<std::int64_t>(kMaxScores / (heads * keys), 1, queries);
  const Tensor scores = Tensor::empty({heads, chunk, keys}, DType::kF32, backend_);
  // Probabilities take the scores' place, those of bfloat16 half of each row.
  const std::int64_t stride = dtype == DType::kF32 ? keys : 2 * keys;
  const Tensor out = y.unflatten(-1, heads, head_dim);

  for (std::int64_t b = 0; b < in.q.dim(0); ++b) {
    for (std::int64_t first = 0; first < queries; first += chunk) {
      const std::int64_t count = std::min(chunk, queries - first);
      const auto table = [&](DType element, std::int64_t row_stride) {
        return Matrix{.data = scores.raw(),
                      .dtype = element,
                      .rows = count,
                      .cols = keys,
                      .row_stride = row_stride,
                      .batch_stride = count * row_stride};
      };
      matmul_.run({.x = heads_of(in.q, b, first, count),
                   .w = heads_of(in.k, b, 0, keys),
                   .y = table(DType::kF32, keys),
                   .batch = heads},
                  stream_);
      SoftmaxArgs softmax{};
      softmax.scores = scores.data<float>();
      softmax.dtype = dtype;
      softmax.heads = heads;
      softmax.queries = count;
      softmax.keys = keys;
      softmax.scale = options.scale;
      softmax.causal = options.causal;
      softmax.query_offset = first;
      if (options.bias.defined()) {
        softmax.bias = options.bias.data<float>() + first * keys;
        softmax.bias_head_stride = queries * keys;
        softmax.bias_row_stride = keys;
      }
      launch_softmax(softmax, stream_);
      matmul_.run({.x = table(dtype, stride),
                   .w = heads_of(in.v, b, 0, keys),
                   .y = heads_of(out, b, first, count),
                   .w_is_kn = true,
                   .batch = heads},
                  stream_);
    }
  }
}

}  // namespace dither::cuda
