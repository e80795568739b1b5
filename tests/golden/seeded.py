"""Numbers that need no file: seeded.h makes the same in C++."""
import math

import numpy
import torch


def uniform(name, count):
    """(2 b_i + 1) / 256 of signed bytes b_i, the top bytes of splitmix64 (Steele et al. 2014) from
    the FNV-1a hash of the name on: odd multiples of 2^-8 in (-1, 1), exact in bfloat16."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(state) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(
            0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return (2 * ((z >> numpy.uint64(56)).astype(numpy.int64) - 128) + 1) / 256


def seeded(name, shape, scale=1.0, offset=0.0):
    """bfloat16(offset + scale u), as float32."""
    values = offset + scale * uniform(name, math.prod(shape))
    return torch.tensor(values, dtype=torch.float32).reshape(shape).bfloat16().float()


def weight(name, shape):
    """A checkpoint's tensor by its name: norms about 1, the rest about 0, products of unit
    variance."""
    if "norm" in name and name.endswith(".weight"):
        return seeded(name, shape, 0.25, 1.0)
    if name.endswith(".weight"):
        return seeded(name, shape, 2.0 ** round(math.log2(math.sqrt(3 / math.prod(shape[1:])))))
    return seeded(name, shape, 0.5 if name.endswith("_table") else 0.125)


@torch.no_grad()
def fill(model, prefix=""):
    """Gives a model the weights of its names, behind a prefix that tells models apart."""
    for name, value in model.state_dict().items():
        value.copy_(weight(prefix + name, tuple(value.shape)))
    return model.eval().float()
