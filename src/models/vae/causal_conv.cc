#include "models/vae/causal_conv.h"

namespace dither::models {

Tensor CausalConv3d::joined(const Shape& x, const Tensor& like, CausalHistory& history,
                            const std::function<void(const Tensor&)>& write) const {
  const auto frames_of = [&](std::int64_t frames, std::int64_t channels) {
    return ops::empty_like(like, {x[0], frames, x[2], x[3], channels});
  };
  const std::int64_t channels = x[4];
  const std::int64_t frames = context_ + x[1];
  const Tensor room =
      frames_of(frames, ops::backend_of(like).conv3d_row_channels(channels, like.dtype()));
  const Tensor all = room.slice(4, 0, channels);
  write(all.slice(1, context_, frames));
  Tensor& before = history.of(this);
  if (before.defined()) {
    ops::copy(before, all.slice(1, 0, context_));
  } else if (context_ > 0) {
    before = frames_of(context_, channels);
    const Tensor zeros = ops::affine(all.slice(1, context_, context_ + 1), 0, 0);
    for (std::int64_t i = 0; i < context_; ++i) ops::copy(zeros, all.slice(1, i, i + 1));
  }
  // A copy: a view would keep all of the tensor.
  if (context_ > 0) ops::copy(all.slice(1, frames - context_, frames), before);
  return room;
}

Tensor CausalConv3d::operator()(const Tensor& x, CausalHistory& history,
                                const Tensor& residual) const {
  if (context_ == 0) return conv_(x, residual);
  return conv_(joined(x.shape(), x, history, [&](const Tensor& place) { ops::copy(x, place); }),
               residual);
}

Tensor CausalConv3d::operator()(Tensor input, const nn::ChannelNorm& norm, CausalHistory& history,
                                const Tensor& residual) const {
  const Tensor all = joined(input.shape(), input, history, [&](const Tensor& place) {
    const ops::Output out{.tensor = place};
    norm(input, out);
  });
  input = {};
  return conv_(all, residual);
}

void CausalConv3d::remember(const Tensor& x, CausalHistory& history) const {
  joined(x.shape(), x, history, [&](const Tensor& place) { ops::copy(x, place); });
}

}  // namespace dither::models
