"""Pictures of callers as the engine reads them: a path, a file:// or data: URL. Bytes, PIL images and numpy arrays become
data: URLs; arrays are written as PNG, which loses nothing."""

import base64
import os
import struct
import zlib

from .errors import Error


def _png(width, height, rgb):
    """An 8-bit RGB PNG of rows of bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + rgb[y * width * 3:(y + 1) * width * 3] for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(lines, 1))
            + chunk(b"IEND", b""))


def _data_url(data):
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")  # the bytes say themselves which format it is


def source_of(image):
    """A picture as a source that the engine opens."""
    if isinstance(image, os.PathLike):
        return os.fspath(image)
    if isinstance(image, str):
        return image
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _data_url(bytes(image))
    if hasattr(image, "convert") and hasattr(image, "tobytes"):  # PIL
        rgb = image.convert("RGB")
        return _data_url(_png(rgb.width, rgb.height, rgb.tobytes()))
    if hasattr(image, "__array_interface__"):  # numpy
        shape, kind = tuple(image.shape), str(image.dtype)
        if len(shape) != 3 or shape[2] != 3 or kind != "uint8" or 0 in shape:
            raise Error("invalid_argument", f"a picture is an array of shape {list(shape)} and type {kind}", "give [height, width, 3] of uint8")
        return _data_url(_png(shape[1], shape[0], image.tobytes()))
    raise Error("invalid_argument", f"a picture is a {type(image).__name__}", "give a path, bytes, a PIL image or a numpy array")


def video_of(video):
    """A video: a path, or a list of frames."""
    return [source_of(frame) for frame in video] if isinstance(video, (list, tuple)) else source_of(video)


def messages_of(prompt, images, videos, system):
    """One user message, pictures before the text; or a message list whose pictures may be objects."""
    if isinstance(prompt, str):
        content = [{"type": "image", "image": source_of(one)} for one in images or []]
        content += [{"type": "video", "video": video_of(one)} for one in videos or []]
        messages = [{"role": "system", "content": system}] if system is not None else []
        return [*messages, {"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
    if images or videos or system is not None:
        raise Error("invalid_argument", "a message list holds its pictures and its system message itself", "leave images, videos and system out")
    return [dict(message, content=[_part(part) for part in message["content"]]) if isinstance(message.get("content"), list) else message
            for message in prompt]


def _part(part):
    for kind, convert in (("image", source_of), ("video", video_of)):
        if kind in part:
            return dict(part, **{kind: convert(part[kind])})
    return part
