#!/usr/bin/env python3
"""Writes corpus/png_fuzz: one 5x4 picture in every kind of PNG, with nothing but zlib.

Colour: r, g, b = 50 x, 60 y, 10 x y. Grey: 60 x. One bit: (x + y) odd. src/media/png_test.cc
expects these values.
"""

import pathlib
import struct
import zlib

WIDTH, HEIGHT = 5, 4
FOLDER = pathlib.Path(__file__).parent / "corpus" / "png_fuzz"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def color(x, y):
    return bytes([50 * x, 60 * y, 10 * x * y])


def rows(pixel, passes):
    for x0, y0, dx, dy in passes:
        xs = range(x0, WIDTH, dx)
        for y in range(y0, HEIGHT, dy):
            if xs:
                yield b"\0" + b"".join(pixel(x, y) for x in xs)


def packed_bits(y):
    return bytes([sum(((x + y) % 2) << (7 - x) for x in range(WIDTH))])


def write(name, depth, kind, raw, extra=b"", interlace=0):
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, interlace)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
    data += chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (FOLDER / name).write_bytes(data)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole = [(0, 0, 1, 1)]

    def image(pixel, passes=whole):
        return b"".join(rows(pixel, passes))

    latin1 = chunk(b"tEXt", b"Comment\0caf\xe9")
    itxt = chunk(b"iTXt", b"prompt\0\0\0\0\0" + "Löwe".encode())
    compressed = chunk(b"zTXt", b"Notes\0\0" + zlib.compress(b"one two"))
    palette = chunk(b"PLTE", b"".join(color(i % WIDTH, i // WIDTH) for i in range(WIDTH * HEIGHT)))
    write("rgb.png", 8, RGB, image(color), latin1 + itxt + compressed)
    write("rgb16.png", 16, RGB, image(lambda x, y: b"".join(bytes([v, v]) for v in color(x, y))))
    write("rgba.png", 8, RGB_ALPHA, image(lambda x, y: color(x, y) + bytes([40 * x])))
    write("adam7.png", 8, RGB, image(color, ADAM7), interlace=1)
    write("palette.png", 8, PALETTE, image(lambda x, y: bytes([y * WIDTH + x])),
          palette + chunk(b"tRNS", b"\0\x80"))
    write("grey.png", 8, GREY, image(lambda x, y: bytes([60 * x])))
    write("grey16.png", 16, GREY, image(lambda x, y: bytes([60 * x, 60 * x])))
    write("grey_alpha.png", 8, GREY_ALPHA, image(lambda x, y: bytes([60 * x, 60 * y])))
    write("grey1.png", 1, GREY, b"".join(b"\0" + packed_bits(y) for y in range(HEIGHT)))
    # A text that claims 2 GiB: libpng would allocate them before it looks for them.
    write("lying_length.png", 8, RGB, image(color), b"\x7b\x0d\0\x10" + itxt[4:])


if __name__ == "__main__":
    main()
