#!/usr/bin/env python3
"""Writes tests/data/media: small synthetic pictures of every format and mode, and what the reference makes of them.

Needs Pillow 13 (the order of resampling changed there), numpy, torch, transformers (4.57.6 or 5.24: the same)
and, for the videos, the ffmpeg program.
  make_media_goldens.py OUT_DIR            writes pictures, expected pixels and goldens.txt
  make_media_goldens.py --check OUT_DIR    recomputes what is expected from the pictures there and compares

Expected pixels are plain 8-bit RGB PNGs. goldens.txt holds one line per fact; src/media/golden_test.cc reads it.
"""
import argparse
import io
import math
import pathlib
import struct
import subprocess
import sys
import zlib

import numpy as np
import torch
import transformers
from PIL import Image, ImageOps, ImageSequence


def scene(height, width, seed=0):
    """A smooth gradient, hard edges and a little noise: compresses well, yet shows every resampling error."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    picture = np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1),
                        127 + 127 * np.sin((x + 2 * y) / 7)], axis=-1)
    picture[height // 4: height // 2, width // 4: width // 2] = (255, 0, 32)
    picture[(x + y) % 16 == 0] = (0, 255, 255)
    noisy = rng.integers(0, 256, (max(height // 8, 1), width, 3))
    picture[: noisy.shape[0]] = noisy
    return picture.round().clip(0, 255).astype(np.uint8)


def alpha_of(height, width):
    return np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))


# ---- formats Pillow cannot write ----------------------------------------------------------------------------------

def pack_bits(row, depth):
    bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth:].reshape(-1)
    return np.packbits(bits).tobytes()


def png_bytes(samples, colour, depth, palette=None, trns=None, interlaced=False, extra=()):
    """samples [h, w, channels] of integers below 2^depth."""
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    height, width, channels = samples.shape

    def rows(part):
        for row in part:
            if depth == 16:
                yield b"\0" + row.astype(">u2").tobytes()
            elif depth == 8:
                yield b"\0" + row.astype(np.uint8).tobytes()
            else:
                yield b"\0" + pack_bits(row[:, 0], depth)

    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b"".join(b"".join(rows(samples[y::sy, x::sx])) for y, x, sy, sx in passes if samples[y::sy, x::sx].size)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    if palette is not None:
        out += chunk(b"PLTE", np.asarray(palette, np.uint8).tobytes())
    if trns is not None:
        out += chunk(b"tRNS", trns)
    for name, body in extra:
        out += chunk(name, body)
    return out + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def bmp_bytes(pixels, width, height, bits, compression=0, palette=b"", masks=b"", header_bytes=40):
    info = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, bits, compression, len(pixels), 2835, 2835,
                       len(palette) // 4, 0)
    info += masks.ljust(header_bytes - 40, b"\0") if header_bytes > 40 else masks
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + info + palette + pixels


def bmp_rows(rows):
    return b"".join(row + b"\0" * (-len(row) % 4) for row in reversed(rows))


def rle8_rows(indices):
    out = b""
    for row in reversed(indices):
        x = 0
        while x < len(row):
            run = 1
            while x + run < len(row) and run < 255 and row[x + run] == row[x]:
                run += 1
            if run >= 3 or len(row) - x < 3:
                out += bytes([run, row[x]])
                x += run
            else:
                literal = bytes(row[x: x + 3])
                out += bytes([0, 3]) + literal + b"\0"
                x += 3
        out += b"\0\0"
    return out + b"\0\1"


def gif_bytes(screen, frame, left, top, palette, indices_gif, transparent=None):
    """Puts the image data of a GIF written by Pillow into a screen of another size."""
    at = 13 + 3 * (2 << (indices_gif[10] & 7))
    while indices_gif[at] == 0x21:
        at += 2
        while indices_gif[at]:
            at += indices_gif[at] + 1
        at += 1
    assert indices_gif[at] == 0x2C and not indices_gif[at + 9] & 0x80
    control = b"" if transparent is None else bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0])
    bits = int(math.log2(len(palette) // 3)) - 1
    return (b"GIF89a" + struct.pack("<HHBBB", screen[1], screen[0], 0x80 | bits, 1, 0) + bytes(palette) + control + b","
            + struct.pack("<HHHH", left, top, frame[1], frame[0]) + indices_gif[at + 9:])


def exif_block(orientation, big_endian=False):
    if big_endian:
        return b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation]) + b"\0\0\0\0\0\0\0"


# ---- the pictures -------------------------------------------------------------------------------------------------

def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def jpegs():
    rgb = Image.fromarray(scene(61, 83))
    for name, options in {"420": {"subsampling": 2}, "422": {"subsampling": 1}, "444": {"subsampling": 0},
                          "progressive": {"progressive": True}, "restart": {"restart_marker_blocks": 3},
                          "q30": {"quality": 30}, "tables": {"optimize": True, "keep_rgb": True}}.items():
        yield f"jpeg_{name}.jpg", saved(rgb, "JPEG", **{"quality": 88, **options})
    yield "jpeg_grey.jpg", saved(rgb.convert("L"), "JPEG")
    cmyk = Image.fromarray(np.dstack([scene(45, 50), scene(45, 50, 1)[:, :, :1] // 3]), "CMYK")
    adobe = saved(cmyk, "JPEG", quality=90)
    yield "jpeg_cmyk.jpg", adobe
    at = adobe.index(b"Adobe")
    yield "jpeg_ycck.jpg", adobe[: at + 11] + b"\2" + adobe[at + 12:]
    yield "jpeg_cmyk_plain.jpg", adobe[: at - 4] + adobe[at + 12:]
    small = Image.fromarray(scene(33, 47))
    for orientation in range(1, 9):
        yield (f"jpeg_exif{orientation}.jpg",
               saved(small, "JPEG", quality=80, exif=exif_block(orientation, orientation % 2 == 0)))
    yield "jpeg_xmp6.jpg", saved(small, "JPEG", xmp=b'<x:xmpmeta tiff:Orientation="6"/>')
    yield "jpeg_tiny.jpg", saved(Image.fromarray(scene(5, 3)), "JPEG")


def deep_grey():
    """16-bit grey around the 255 at which Pillow clips it."""
    wide = scene(37, 53).astype(np.int64)[:, :, 0] * 257 + np.arange(53)
    return (np.minimum(wide, 65535) // 160).astype(np.uint16)


def pngs():
    rgb = scene(37, 53)
    alpha = alpha_of(37, 53)
    wide = rgb.astype(np.int64) * 257 + np.arange(53)[None, :, None]
    wide = np.minimum(wide, 65535)
    grey = rgb[:, :, 0]
    quantised = Image.fromarray(rgb).quantize(200)
    palette = np.asarray(quantised.getpalette()).reshape(-1, 3)
    index = np.asarray(quantised)
    for interlaced in (False, True):
        tail = "_interlaced.png" if interlaced else ".png"
        def png(*args, **kwargs):
            return png_bytes(*args, interlaced=interlaced, **kwargs)
        yield "png_rgb8" + tail, png(rgb, 2, 8)
        yield "png_rgb16" + tail, png(wide, 2, 16)
        yield "png_rgba8" + tail, png(np.dstack([rgb, alpha]), 6, 8)
        yield "png_rgba16" + tail, png(np.dstack([wide, alpha.astype(np.int64) * 257]), 6, 16)
        yield "png_la8" + tail, png(np.dstack([grey, alpha]), 4, 8)
        yield "png_la16" + tail, png(np.dstack([wide[:, :, 0], alpha.astype(np.int64) * 257]), 4, 16)
        for depth in (1, 2, 4, 8):
            yield f"png_grey{depth}" + tail, png(grey >> (8 - depth), 0, depth)
        yield "png_grey16" + tail, png(deep_grey(), 0, 16)
        yield "png_palette8" + tail, png(index, 3, 8, palette=palette)
        for depth in (1, 2, 4):
            yield (f"png_palette{depth}" + tail,
                   png(index % (1 << depth), 3, depth, palette=palette[7: 7 + (1 << depth)]))
    yield "png_palette8_trns.png", png_bytes(index, 3, 8, palette=palette, trns=bytes(range(0, 200)))
    yield "png_palette_short.png", png_bytes(index % 16, 3, 4, palette=palette[:9])
    yield "png_grey8_trns.png", png_bytes(grey, 0, 8, trns=struct.pack(">H", int(grey[20, 20])))
    yield "png_rgb8_trns.png", png_bytes(rgb, 2, 8, trns=struct.pack(">HHH", *map(int, rgb[20, 20])))
    for depth, key in ((1, 1), (2, 0), (4, 0), (4, 15)):
        yield f"png_grey{depth}_trns{key}.png", png_bytes(grey >> (8 - depth), 0, depth, trns=struct.pack(">H", key))
    yield "png_grey16_trns.png", png_bytes(deep_grey(), 0, 16, trns=struct.pack(">H", 77))
    yield "png_rgb16_trns.png", png_bytes(wide, 2, 16, trns=struct.pack(">HHH", *[int(v) * 257 for v in rgb[20, 20]]))
    yield ("png_rgb8_trns_interlaced.png",
           png_bytes(rgb, 2, 8, trns=struct.pack(">HHH", *map(int, rgb[9, 14])), interlaced=True))
    yield ("png_palette4_trns_interlaced.png",
           png_bytes(index % 16, 3, 4, palette=palette[7:23], trns=bytes([255, 0, 128]), interlaced=True))
    frames = [Image.fromarray(np.dstack([scene(20, 24, seed), alpha_of(20, 24)])) for seed in (5, 6)]
    yield "png_animated_rgba.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50)
    yield "png_exif6.png", png_bytes(rgb[:20, :31], 2, 8, extra=[(b"eXIf", exif_block(6)[6:])])
    raw = exif_block(8).hex()
    profile = b"Raw profile type exif\0\nexif\n      %d\n%s\n" % (len(raw) // 2, raw.encode())
    yield "png_raw_profile8.png", png_bytes(rgb[:20, :31], 2, 8, extra=[(b"tEXt", profile)])
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>3</tiff:Orientation>"
    yield "png_xmp3.png", png_bytes(rgb[:20, :31], 2, 8, extra=[(b"iTXt", xmp)])
    yield "png_one_pixel.png", png_bytes(rgb[20:21, 20:21], 2, 8)


def webps():
    rgb, alpha = scene(40, 61), alpha_of(40, 61)
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    yield "webp_lossy.webp", saved(Image.fromarray(rgb), "WEBP", quality=80)
    yield "webp_lossless.webp", saved(Image.fromarray(rgb), "WEBP", lossless=True)
    yield "webp_lossy_alpha.webp", saved(rgba, "WEBP", quality=80)
    yield "webp_lossless_alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "webp_exif5.webp", saved(Image.fromarray(rgb[:20, :31]), "WEBP", exif=exif_block(5))
    frames = [Image.fromarray(scene(30, 30, seed)) for seed in (1, 2)]
    yield "webp_animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100)


def gifs():
    rgb = scene(35, 50)
    quantised = Image.fromarray(rgb).quantize(32)
    yield "gif_plain.gif", saved(quantised, "GIF", interlace=0)
    yield "gif_interlaced.gif", saved(quantised, "GIF", interlace=1)
    yield "gif_transparent.gif", saved(quantised, "GIF", transparency=3)
    yield "gif_transparent_interlaced.gif", saved(quantised, "GIF", transparency=9, interlace=1)
    yield "gif_grey.gif", saved(Image.fromarray(rgb).convert("L"), "GIF")
    frames = [Image.fromarray(scene(20, 24, seed)) for seed in (3, 4)]
    yield "gif_animated.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    body = saved(quantised, "GIF", interlace=0)
    palette = list(body[13: 13 + 3 * (2 << (body[10] & 7))])
    yield "gif_partial.gif", gif_bytes((50, 70), (35, 50), 11, 9, palette, body)
    yield "gif_partial_transparent.gif", gif_bytes((50, 70), (35, 50), 11, 9, palette, body, transparent=5)
    yield "gif_beyond_screen.gif", gif_bytes((10, 20), (35, 50), 2, 1, palette, body)


def bmps():
    rgb, alpha = scene(19, 27), alpha_of(19, 27)
    quantised = Image.fromarray(rgb).quantize(200)
    palette = np.asarray(quantised.getpalette(), np.uint8).reshape(-1, 3)
    index = np.asarray(quantised)
    def quads(count):
        return np.dstack([palette[None, :count, ::-1], np.zeros((1, count, 1), np.uint8)]).tobytes()
    yield "bmp_24.bmp", saved(Image.fromarray(rgb), "BMP")
    yield "bmp_8.bmp", saved(quantised, "BMP")
    yield "bmp_grey8.bmp", saved(Image.fromarray(rgb[:, :, 0]), "BMP")
    yield "bmp_1.bmp", saved(Image.fromarray(rgb[:, :, 0] > 100), "BMP")
    yield "bmp_4.bmp", bmp_bytes(bmp_rows([pack_bits(row % 16, 4) for row in index]), 27, 19, 4, palette=quads(16))
    yield "bmp_rle8.bmp", bmp_bytes(rle8_rows(index.tolist()), 27, 19, 8, 1, palette=quads(200))
    bgrx = np.dstack([rgb[:, :, ::-1], alpha])
    yield "bmp_32.bmp", bmp_bytes(bmp_rows([row.tobytes() for row in bgrx]), 27, 19, 32)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    yield "bmp_32_alpha.bmp", bmp_bytes(bmp_rows([row.tobytes() for row in bgrx]), 27, 19, 32, 3, masks=masks,
                                        header_bytes=108)
    five = rgb.astype(np.uint32) >> 3
    v555 = (five[:, :, 0] << 10 | five[:, :, 1] << 5 | five[:, :, 2]).astype("<u2")
    v565 = (five[:, :, 0] << 11 | rgb[:, :, 1].astype(np.uint32) >> 2 << 5 | five[:, :, 2]).astype("<u2")
    yield "bmp_16_555.bmp", bmp_bytes(bmp_rows([row.tobytes() for row in v555]), 27, 19, 16)
    yield "bmp_16_565.bmp", bmp_bytes(bmp_rows([row.tobytes() for row in v565]), 27, 19, 16, 3,
                                      masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    down = b"".join(row.tobytes() + b"\0" * (-27 * 3 % 4) for row in rgb[:, :, ::-1])
    yield "bmp_top_down.bmp", bmp_bytes(down, 27, -19, 24)


def tiff_of_tiles(grey, order, side=32, sample_format=1):
    """16-bit grey in tiles that reach past its right and lower edge, uncompressed; Pillow writes strips only."""
    (height, width), dtype = grey.shape, grey.dtype.newbyteorder(order)
    padded = np.zeros((-height % side + height, -width % side + width), dtype)
    padded[:height, :width] = grey
    tiles = [padded[y:y + side, x:x + side].tobytes()
             for y in range(0, height, side) for x in range(0, width, side)]
    first = 8 + 8 * len(tiles)
    offsets = [first + i * len(tiles[0]) for i in range(len(tiles))]
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1),
            (322, 3, 1, side), (323, 3, 1, side), (324, 4, len(tiles), 8), (325, 4, len(tiles), 8 + 4 * len(tiles)),
            (339, 3, 1, sample_format)]
    directory = b"".join(struct.pack(order + ("HHIHxx" if kind == 3 else "HHII"), *(tag, kind, count, value))
                         for tag, kind, count, value in tags)
    return (struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, first + sum(map(len, tiles)))
            + struct.pack(f"{order}{len(tiles)}I", *offsets) + struct.pack(f"{order}{len(tiles)}I", *map(len, tiles))
            + b"".join(tiles) + struct.pack(order + "H", len(tags)) + directory + bytes(4))


def tiffs():
    rgb, alpha = scene(33, 47), alpha_of(33, 47)
    grey = Image.fromarray(rgb[:, :, 0])
    colour = Image.fromarray(rgb)
    for name, compression in {"plain": None, "lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packbits": "packbits"}.items():
        yield f"tiff_rgb_{name}.tif", saved(colour, "TIFF", compression=compression)
    yield "tiff_grey.tif", saved(grey, "TIFF", compression="tiff_lzw")
    for name in ("group3", "group4", "tiff_ccitt"):
        yield f"tiff_fax_{name}.tif", saved(grey.point(lambda v: 255 * (v > 100)).convert("1"), "TIFF", compression=name)
    yield "tiff_white_is_zero.tif", saved(grey, "TIFF", tiffinfo={262: 0})
    deep = deep_grey()
    yield "tiff_grey16.tif", saved(Image.fromarray(deep), "TIFF", compression="tiff_lzw")
    yield "tiff_grey16_white_is_zero.tif", saved(Image.fromarray(deep), "TIFF", tiffinfo={262: 0})
    yield "tiff_grey16_tiles.tif", tiff_of_tiles(deep, ">")
    yield "tiff_grey16_small_tiles.tif", tiff_of_tiles(deep, "<", side=16)  # libtiff's own buffer is larger than a tile
    yield "tiff_grey16_signed.tif", tiff_of_tiles((deep.astype(np.int16) - 50), "<", sample_format=2)
    yield "tiff_palette.tif", saved(colour.quantize(200), "TIFF")
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    yield "tiff_rgba.tif", saved(rgba, "TIFF", compression="tiff_lzw")
    yield "tiff_rgbx.tif", saved(rgba, "TIFF", tiffinfo={338: 0})
    yield "tiff_la.tif", saved(Image.merge("LA", (grey, Image.fromarray(alpha))), "TIFF")
    for orientation in (1, 3, 5, 6, 8):
        yield f"tiff_turned{orientation}.tif", saved(colour, "TIFF", tiffinfo={274: orientation})
    yield "tiff_big.tif", saved(colour, "TIFF", big_tiff=True)
    pages = [Image.fromarray(scene(30 + 2 * seed, 40, seed)) for seed in (7, 8, 9)]
    yield "tiff_pages.tif", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")


# ---- videos -------------------------------------------------------------------------------------------------------

def frame_scene(index, height=60, width=90):
    """Frame `index` shows its number as a row of eight blocks, black 0 and white 1, lowest bit first, over grey."""
    frame = np.full((height, width, 3), 128, np.uint8)
    frame[:, :, 2] = np.linspace(64, 192, width).astype(np.uint8)
    for bit in range(8):
        frame[8:28, 4 + bit * 10: 14 + bit * 10] = 255 * (index >> bit & 1)
    frame[36:52, 10:80] = (200, 40, 60)
    return frame


def encode(path, frames, rate, *options):
    height, width = frames[0].shape[:2]
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate,
                    "-i", "-", "-fflags", "+bitexact", "-flags", "+bitexact", *options, str(path)],
                   input=b"".join(frame.tobytes() for frame in frames), check=True)


def write_videos(folder):
    h264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-threads", "1")
    encode(folder / "video_25fps.mp4", [frame_scene(i) for i in range(75)], "25", *h264)
    encode(folder / "video_ntsc.mp4", [frame_scene(i) for i in range(50)], "30000/1001", *h264,
           "-movflags", "+faststart")
    encode(folder / "video_short.mp4", [frame_scene(i) for i in range(3)], "10", *h264)
    encode(folder / "video_mpeg4.avi", [frame_scene(i) for i in range(21)], "7", "-c:v", "mpeg4", "-q:v", "3")
    encode(folder / "video_vp9.webm", [frame_scene(i) for i in range(30)], "12", "-c:v", "libvpx-vp9", "-crf", "20",
           "-threads", "1")
    encode(folder / "video.ts", [frame_scene(i) for i in range(40)], "20", *h264)
    encode(folder / "video_full_range.mp4", [frame_scene(i) for i in range(8)], "4", *h264, "-vf",
           "scale=out_range=full:out_color_matrix=bt709", "-color_range", "pc", "-colorspace", "bt709")
    rotated = folder / "video_rotated.mp4"
    encode(rotated, [frame_scene(i) for i in range(8)], "4", *h264)
    data = bytearray(rotated.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # shown a quarter turn clockwise, as a telephone held upright records it
    data[matrix: matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 60 << 16, 0, 1 << 30)
    rotated.write_bytes(data)
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "sine=duration=0.3", "-c:a", "aac", "-b:a", "16k",
                    "-fflags", "+bitexact", str(folder / "audio_only.mp4")], check=True)


# ---- what qwen_vl_utils samples (vision_process.py 0.0.14: smart_nframes, fetch_video) ---------------------------------

def smart_nframes(total, video_fps, fps, min_frames, max_frames):
    low, high = math.ceil(min_frames / 2) * 2, math.floor(min(max_frames, total) / 2) * 2
    return math.floor(min(min(max(total / video_fps * fps, low), high), total) / 2) * 2


def sampling_lines():
    rng = np.random.default_rng(5)
    cases = [(75, 25.0, 2.0, 4, 768), (50, 30000 / 1001, 2.0, 4, 768), (3, 10.0, 2.0, 4, 768), (2, 30.0, 2.0, 4, 768)]
    cases += [(9000, 29.97, 2.0, 4, 768), (54000, 30.0, 2.0, 4, 768), (30, 12.0, 1.5, 4, 768), (250, 25.0, 0.3, 5, 9)]
    for _ in range(60):
        cases.append((int(rng.integers(2, 3000)), float(rng.choice([10, 15, 23.976, 24, 25, 29.97, 30, 60])),
                      float(rng.choice([0.5, 1, 2, 3.7, 5])), int(rng.integers(1, 12)), int(rng.integers(12, 300))))
    for total, video_fps, fps, low, high in cases:
        count = smart_nframes(total, video_fps, fps, low, high)
        indices = torch.linspace(0, total - 1, count).round().long().tolist()
        yield f"sampling {total} {video_fps!r} {fps!r} {low} {high} {' '.join(map(str, indices))}"


def frame_limits(count, user_min=None, user_max=None):
    low = 128 * 28 * 28 if user_min is None else user_min
    high = max(min(768 * 28 * 28, 128000 * 28 * 28 * 0.9 / count * 2), int(low * 1.05))
    return low, high if user_max is None else min(user_max, high)


def frame_size_lines():
    for count in (2, 4, 6, 100, 300, 400, 768):
        for height, width in ((60, 90), (240, 320), (480, 640), (720, 1280), (1080, 1920), (2160, 3840), (1920, 1080)):
            for user in ((None, None), (784, None), (None, 200704), (3136, 50176)):
                low, high = frame_limits(count, *user)
                h, w = smart_resize(height, width, 28, low, high)
                yield "line", (f"frame_size {count} {height} {width} {user[0] or 0} {user[1] or 0} {h} {w}")


def frame_list_expected():
    """Three listed frames: each PIL-resized as an image, then all by torch to the limits of a video."""
    frames = [Image.fromarray(scene(50, 70, seed)) for seed in (11, 12, 13)]
    first = smart_resize(50, 70, 28, 4 * 784, 16384 * 784)
    second = smart_resize(*first, 28, *frame_limits(4))
    pixels = [torch_resize(frame.resize(first[::-1], Image.Resampling.BICUBIC), *second, True) for frame in frames]
    return frames, pixels + pixels[-1:], second


def patches_of_frames(frames):
    """The slow processor's arithmetic and the reference's patch order (semantics: 9 axes, permuted)."""
    values = np.stack([np.asarray(frame) for frame in frames]).astype(np.float64) * (1 / 255)
    process = processor()
    mean, std = np.float32(process.image_mean), np.float32(process.image_std)
    values = ((values.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2)
    t, _, h, w = values.shape
    values = values.reshape(t // 2, 2, 3, h // 28, 2, 14, w // 28, 2, 14).transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return np.ascontiguousarray(values).reshape(-1, 1176)


# ---- what the reference makes of the pictures -----------------------------------------------------------------------------

def reference_rgb(path):
    """Pillow's pixels, upright, on white where the file states transparency: what convert_to_rgb of transformers 5.24
    (image_transforms.py) does, which 4.57.6 does not (it then keeps what lies beneath)."""
    return on_white(ImageOps.exif_transpose(Image.open(path)))


def on_white(image):
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def processor(min_pixels=56 * 56, max_pixels=28 * 28 * 1280):
    if int(transformers.__version__.split(".")[0]) >= 5:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil as Processor
    else:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor as Processor
    return Processor(size={"shortest_edge": min_pixels, "longest_edge": max_pixels})


def smart_resize(*args, **kwargs):
    if int(transformers.__version__.split(".")[0]) >= 5:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as function
    else:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as function
    return function(*args, **kwargs)


def pil_resize(image, height, width, version):
    """Pillow 13 picks the order of the passes; up to 12 rows always came first, which two calls reproduce."""
    if version == "pil_12":
        image = image.resize((width, image.height), Image.Resampling.BICUBIC)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def torch_resize(image, height, width, as_float):
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None]
    if as_float:
        pixels = pixels.float()
    out = torch.nn.functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True,
                                          align_corners=False)
    out = out.clamp(0, 255).round().to(torch.uint8) if as_float else out
    return Image.fromarray(out[0].permute(1, 2, 0).numpy())


def smart_resize_lines():
    sides = [1, 5, 9, 10, 13, 14, 15, 27, 28, 29, 41, 42, 43, 56, 69, 70, 71, 84, 126, 140, 182, 199, 200, 500, 640, 980,
             1344, 1008, 1080, 1920, 2530, 3024, 4032, 8660, 11547, 20000]
    limits = [(3136, 1003520), (3136, 12845056), (100352, 602112), (784, 784), (200704, 401408)]
    for low, high in limits:
        for height in sides:
            for width in sides:
                if max(height, width) / min(height, width) <= 200 and (height * 7 + width) % 3 == 0:
                    h, w = smart_resize(height, width, 28, low, high)
                    yield f"smart_resize {height} {width} 28 {low} {high} {h} {w}"
    for height, width, factor in [(70, 126, 28), (100, 19900, 28), (100, 20000, 28), (64, 64, 32), (33, 100, 32)]:
        h, w = smart_resize(height, width, factor, 3136, 12845056)
        yield f"smart_resize {height} {width} {factor} 3136 12845056 {h} {w}"


def fnv(array):
    """64-bit FNV-1a over 32-bit words: what the C++ test can compute in two lines."""
    state = 0xCBF29CE484222325
    for word in np.ascontiguousarray(array).reshape(-1).view(np.uint32).tolist():
        state = ((state ^ word) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


RESAMPLE = [(10, 13), (28, 28), (61, 40), (30, 83), (122, 166), (500, 7), (1, 1), (56, 84), (40, 90), (55, 70)]


def expected(folder):
    """Yields (relative path, bytes) of expected files and the lines of goldens.txt as ('line', text)."""
    process = processor()
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"):
            continue
        image = reference_rgb(path)
        yield f"expected/{path.name}.png", np.asarray(image)
        out = process(images=[image], return_tensors="np", input_data_format="channels_last")
        values = out["pixel_values"].astype(np.float32)
        t, h, w = out["image_grid_thw"][0].tolist()
        yield "line", f"patches {path.name} {image.height} {image.width} {t} {h} {w} {fnv(values)}"
        if path.name == "png_rgb8.png":
            yield "expected/png_rgb8.patches.f32", values
    for page, frame in enumerate(ImageSequence.Iterator(Image.open(folder / "tiff_pages.tif"))):
        yield f"expected/tiff_page_{page}.png", np.asarray(on_white(frame))
        yield "line", f"page tiff_pages.tif {page} tiff_page_{page}.png"
    base = reference_rgb(folder / "jpeg_444.jpg")
    for height, width in RESAMPLE:
        for arithmetic in ("pil", "pil_12", "torch_u8", "torch_f32"):
            if arithmetic.startswith("pil"):
                resized = pil_resize(base, height, width, arithmetic)
            else:
                resized = torch_resize(base, height, width, arithmetic == "torch_f32")
            name = f"resized_{arithmetic}_{height}x{width}.png"
            yield f"expected/{name}", np.asarray(resized)
            yield "line", f"resample jpeg_444.jpg {arithmetic} {height} {width} {name}"
    # One picture large enough for the parallel passes and the ratio of a photograph, made again by the C++ test.
    y, x = np.mgrid[0:1200, 0:1600]
    large = Image.fromarray(np.stack([(x * 7 + y * 3) % 256, (x * y // 64) % 256, (x ^ y) % 256], -1).astype(np.uint8))
    for height, width in [(420, 560), (868, 1148), (1204, 1596), (1400, 1876)]:
        for arithmetic in ("pil", "pil_12"):
            yield "line", f"large {arithmetic} {height} {width} {fnv(pil_resize(large, height, width, arithmetic))}"
        yield "line", f"large torch_u8 {height} {width} {fnv(torch_resize(large, height, width, False))}"
    for line in [*smart_resize_lines(), *sampling_lines()]:
        yield "line", line
    yield from frame_size_lines()
    _, frames, (height, width) = frame_list_expected()
    yield "line", f"frame_list 2 {height // 14} {width // 14}"
    yield "expected/frame_list.f32", patches_of_frames(frames).reshape(-1)[::997]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder
    if not arguments.check:
        (folder / "expected").mkdir(parents=True, exist_ok=True)
        for group in (jpegs, pngs, webps, gifs, bmps, tiffs):
            for name, data in group():
                (folder / name).write_bytes(data)
        write_videos(folder)
        for index, frame in enumerate(frame_list_expected()[0]):
            frame.save(folder / f"frame_list_{index}.png", optimize=True)
    lines, wrong = [], []
    for name, value in expected(folder):
        if name == "line":
            lines.append(value)
            continue
        path = folder / name
        if arguments.check:
            stored = np.frombuffer(path.read_bytes(), np.float32) if name.endswith(".f32") else np.asarray(Image.open(path))
            if not np.array_equal(stored.reshape(-1), value.reshape(-1)):
                wrong.append(name)
        elif name.endswith(".f32"):
            path.write_bytes(value.tobytes())
        else:
            Image.fromarray(value).save(path, optimize=True)
    text = "\n".join(lines) + "\n"
    if arguments.check:
        stored = set((folder / "goldens.txt").read_text().splitlines())
        wrong += [line for line in lines if line not in stored]
        print("\n".join(wrong) or f"all as expected with transformers {transformers.__version__}")
        sys.exit(bool(wrong))
    (folder / "goldens.txt").write_text(text)


if __name__ == "__main__":
    main()
