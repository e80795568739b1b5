"""Runs the dither executable for the end-to-end tests, and reads what it writes."""

import json
import math
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
DITHER = os.environ.get("DITHER", str(ROOT / "build/release/bin/dither"))
MODEL = ROOT / "models" / "emoji-flux"
FAST = ["--num-inference-steps", "2"]
# In what layers of bfloat16 run: a processor without AVX512_BF16 widens them.
EXECUTED_BF16 = "(BF16|F32)"


class CommandTest(unittest.TestCase):
    """Each test has an empty folder of its own, which is the current folder of what it runs."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="dither-e2e-")
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def run_dither(self, *arguments, stdin=b"", **options):
        """The finished process; output is bytes."""
        options.setdefault("cwd", self.folder)
        return subprocess.run([DITHER, *map(os.fspath, arguments)], input=stdin,
                              capture_output=True, timeout=300, **options)

    def succeed(self, *arguments, **options):
        """Standard output as text."""
        done = self.run_dither(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done.stdout.decode()

    def fail_with(self, status, *arguments, says=(), **options):
        """One line on stderr that contains every text of `says`; nothing on stdout."""
        done = self.run_dither(*arguments, **options)
        message = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, status, message)
        self.assertTrue(message.startswith("dither: error: "), message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertEqual(done.stdout, b"")
        for text in says:
            self.assertIn(text, message)
        return message

    def files(self):
        """Every file of the test's folder, relative and sorted."""
        return sorted(str(path.relative_to(self.folder))
                      for path in self.folder.rglob("*") if path.is_file())

    def assert_no_file(self):
        """No folder either."""
        self.assertEqual(list(self.folder.rglob("*")), [])

    def copy_model(self):
        """A copy of the demo model to damage."""
        copy = self.folder.parent / (self.folder.name + "-model")
        shutil.copytree(MODEL, copy, ignore=shutil.ignore_patterns("train", "samples.jpg"))
        self.addCleanup(shutil.rmtree, copy)
        return copy


def png_chunks(data):
    """[(type, content)] of a PNG, after checking signature, CRCs and the end."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "no PNG signature"
    chunks, at = [], 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        content = data[at + 8:at + 8 + length]
        (crc,) = struct.unpack(">I", data[at + 8 + length:at + 12 + length])
        assert crc == zlib.crc32(kind + content), f"CRC of {kind}"
        chunks.append((kind.decode(), content))
        at += 12 + length
    assert chunks[-1][0] == "IEND"
    return chunks


def write_png(path, width, height, pixels=None):
    """An RGB picture, of two gradients where no pixels are given."""
    if pixels is None:
        pixels = bytes(value for y in range(height) for x in range(width)
                       for value in (x * 255 // width, y * 255 // height, 99))
    rows = b"".join(b"\0" + pixels[3 * width * y:3 * width * (y + 1)] for y in range(height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks))


def png_size(data):
    return struct.unpack(">II", png_chunks(data)[0][1][:8])


def read_safetensors(path):
    """(header, data): the header's tensors and metadata, the bytes after it."""
    raw = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_sparse_safetensors(path, tensors):
    """A file of {name: (dtype, shape)} at its full length, of which next to nothing is on the disk: the
    header, and 1.0 in tensors without dimensions (F32), which lie in front. The rest is one hole."""
    sizes = {"BF16": 2, "F32": 4, "F8_E4M3": 1}
    header, end = {}, 0
    for name in sorted(tensors, key=lambda name: (len(tensors[name][1]) > 0, name)):
        dtype, shape = tensors[name]
        begin, end = end, end + sizes[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    scalars = sum(not shape for _, shape in tensors.values())
    write_safetensors(path, header, struct.pack("<f", 1.0) * scalars)
    os.truncate(path, os.path.getsize(path) - 4 * scalars + end)


def main():
    unittest.main(verbosity=2)
