#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

/// How the tiles of an attention are shared out among blocks (Stream-K, Osama et al. 2023, for the
/// last wave alone). Tiles are equally long, so a last wave of few tiles would leave the other
/// multiprocessors idle: FLUX.1's 864 tiles are 6.5 waves of 132. The tiles of that wave are cut
/// along their keys instead, and every block has an equal share of them.
namespace dither::cuda {

/// Tiles of keys of one tile of queries, counted from the last keys on.
struct FlashPiece {
  int tile;
  int begin, end;
};

/// A position is a whole tile's number or, behind those, a step: one tile of keys of a cut tile.
struct FlashSplit {
  int whole;      ///< tiles that are not cut
  int steps;      ///< of all others
  int share;      ///< steps of a block
  int key_tiles;  ///< of a tile: its steps

  __device__ int first() const {
    const int block = static_cast<int>(blockIdx.x);
    return block < whole ? block : whole + block * share;
  }
  __device__ bool done(int at) const { return at >= whole + min(steps, end_of_share()); }
  __device__ int next(int at) const {
    if (at < whole) {
      at += static_cast<int>(gridDim.x);
      return at < whole ? at : whole + end_of_share() - share;
    }
    const int cut = (at - whole) / key_tiles;
    return whole + min((cut + 1) * key_tiles, end_of_share());
  }
  __device__ FlashPiece piece(int at) const {
    if (at < whole) return {at, 0, key_tiles};
    const int step = at - whole;
    const int cut = step / key_tiles;
    return {whole + cut, step - cut * key_tiles, min(key_tiles, end_of_share() - cut * key_tiles)};
  }

  /// How many pieces a cut tile has: as many as blocks.
  __device__ int pieces(int cut) const {
    return ((cut + 1) * key_tiles - 1) / share - first_block(cut) + 1;
  }
  /// From one piece to the next, block or tile goes up: no two pieces have the same place, and
  /// those of a tile lie side by side.
  __device__ int place(int cut) const { return cut + static_cast<int>(blockIdx.x); }
  __device__ int first_place(int cut) const { return cut + first_block(cut); }
  int places(int blocks) const { return steps == 0 ? 0 : steps / key_tiles + blocks; }

 private:
  __device__ int first_block(int cut) const { return cut * key_tiles / share; }
  __device__ int end_of_share() const { return (static_cast<int>(blockIdx.x) + 1) * share; }
};

/// `tiles` of `key_tiles` each, over `blocks`.
inline FlashSplit split_tiles(int tiles, int key_tiles, int blocks) {
  // What writing pieces and adding them up takes, in steps; and no piece is shorter than that.
  constexpr int kCost = 4;
  const int cut = tiles % blocks;
  const int steps = cut * key_tiles;
  const int share = std::max(kCost, (steps + blocks - 1) / blocks);
  if (cut == 0 || share + kCost > key_tiles) {
    return {.whole = tiles, .steps = 0, .share = 0, .key_tiles = key_tiles};
  }
  return {.whole = tiles - cut, .steps = steps, .share = share, .key_tiles = key_tiles};
}

}  // namespace dither::cuda
