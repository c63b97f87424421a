"""A PNG of random pixels, the same for every reader."""

import random
import struct
import zlib


def write_noise_png(path, width, height, seed):
    random_bytes = random.Random(seed).randbytes
    rows = b"".join(b"\0" + random_bytes(3 * width) for _ in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)   # 8 bits, RGB
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) +
                     chunk(b"IEND", b""))
    return path
