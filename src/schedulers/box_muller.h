#pragma once

#include <cstdint>

namespace dither::schedulers {

/// PyTorch's CPU Box-Muller transform (Box & Muller 1958), in place over `groups` consecutive
/// groups of 16 uniforms u in [0, 1): for j < 8
///   r = sqrt(-2 ln(1 - u[j])),  u[j] <- r cos(2 pi u[j+8]),  u[j+8] <- r sin(2 pi u[j+8]).
/// ln, sin and cos are the Cephes single-precision polynomials (Moshier 1992), every product that
/// feeds a sum fused, as PyTorch's x86 kernel evaluates them. The results are the same on every
/// machine, and bit for bit those of torch.randn on x86 (see torch_noise.h); PyTorch on other
/// architectures calls libm, which differs by at most 2.4e-7.
void box_muller_groups_of_16(float* values, int64_t groups);

}  // namespace dither::schedulers
