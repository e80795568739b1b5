#!/usr/bin/env python3
"""Writes pictures.safetensors: small pictures in every format that is read, and what Pillow makes of them.

make_pictures.py [FOLDER]

"<name>.file" are a file's bytes, "<name>.rgb" [height, width, 3] what diffusers' load_image() makes of
it: ImageOps.exif_transpose(), convert("RGB"), of an animation the first frame. With a FOLDER the files
are written there too, as seeds for image_fuzz.
    pip install pillow==13.0.0 numpy safetensors  # libjpeg-turbo 3.2.0, libwebp 1.6.0
"""
import io
import pathlib
import sys

import numpy
import PIL
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 21, 13  # odd: chroma is subsampled at the edges


def picture():
    """Smooth in one channel, sharp in another, noise in the third."""
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    noise = numpy.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH))
    return Image.fromarray(numpy.stack([12 * x, 255 * ((x // 5 + y // 4) % 2), noise], 2).astype("uint8"))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def files():
    rgb = picture()
    alpha = rgb.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(rgb.size))
    grey = rgb.convert("L")
    frames = {"save_all": True, "append_images": [ImageOps.invert(rgb)], "duration": 100}
    yield "jpeg 4:2:0", encoded(rgb, "JPEG", quality=90)
    yield "jpeg 4:4:4", encoded(rgb, "JPEG", quality=95, subsampling=0)
    yield "jpeg 4:2:2 progressive", encoded(rgb, "JPEG", quality=60, subsampling=1, progressive=True)
    yield "jpeg grey", encoded(grey, "JPEG")
    yield "jpeg cmyk", encoded(rgb.convert("CMYK"), "JPEG", quality=90)
    for orientation in range(1, 9):
        yield f"jpeg orientation {orientation}", encoded(rgb, "JPEG", exif=exif(orientation))
    yield "webp lossy", encoded(rgb, "WEBP", quality=80)
    yield "webp lossless", encoded(rgb, "WEBP", lossless=True)
    yield "webp alpha", encoded(alpha, "WEBP", quality=80, alpha_quality=70)
    yield "webp animated", encoded(rgb, "WEBP", lossless=True, **frames)
    yield "webp orientation 6", encoded(rgb, "WEBP", exif=exif(6))
    yield "png alpha", encoded(alpha, "PNG")
    yield "png palette", encoded(rgb.quantize(16), "PNG")
    yield "png grey", encoded(grey, "PNG")
    yield "png animated", encoded(rgb, "PNG", **frames)
    yield "png orientation 8", encoded(rgb, "PNG", exif=exif(8))


def main():
    tensors = {}
    for name, data in files():
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        tensors[f"{name}.file"] = numpy.frombuffer(data, "uint8")
        tensors[f"{name}.rgb"] = numpy.asarray(image)
        if len(sys.argv) > 1:
            folder = pathlib.Path(sys.argv[1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name.replace(" ", "-").replace(":", "")).write_bytes(data)
    save_file(tensors, HERE / "pictures.safetensors",
              {"made_by": "make_pictures.py", "pillow": PIL.__version__})


if __name__ == "__main__":
    main()
