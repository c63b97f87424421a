#!/usr/bin/env python3
"""Writes tests/data/processors/goldens.json: which limits of pixels transformers takes from a folder's processor files.

  python tools/make_processor_goldens.py          # torch, torchvision, transformers 5, Pillow
  python tools/make_processor_goldens.py --check  # the same with any release: prints where it decides otherwise

Each entry is {files, image, video}: the texts of the files, and [min, max] of an image and of a frame, or null where
transformers finds no file to read them from.
"""
import argparse
import json
import random
import tempfile
from pathlib import Path

import transformers
from transformers import AutoImageProcessor, AutoVideoProcessor

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "processors" / "goldens.json"
IMAGE, VIDEO = dict(image_processor_type="Qwen2VLImageProcessor"), dict(video_processor_type="Qwen2VLVideoProcessor")


def limits(rng):
    """One of the ways in which people state limits; distinct numbers, so that the file they come from shows."""
    low, high = rng.randrange(4, 40) * 784, rng.randrange(100, 16000) * 784
    return rng.choice([dict(size=dict(shortest_edge=low, longest_edge=high)), dict(min_pixels=low, max_pixels=high),
                       dict(max_pixels=high), dict(min_pixels=low), dict(size=dict(shortest_edge=low, longest_edge=high), max_pixels=high // 2),
                       dict(size=dict(shortest_edge=low, longest_edge=high), min_pixels=None, max_pixels=None), {}])


def folders(rng):
    """Every combination of the files, each drawn several times."""
    old = lambda: IMAGE | dict(patch_size=14) | limits(rng)
    frames = lambda: VIDEO | limits(rng)
    plain = lambda: dict(processor_class="Qwen2_5_VLProcessor")
    nested = [plain, lambda: plain() | dict(image_processor=IMAGE | limits(rng)), lambda: plain() | dict(video_processor=VIDEO | limits(rng)),
              lambda: plain() | dict(image_processor=IMAGE | limits(rng), video_processor=VIDEO | limits(rng))]
    for processor in [None, *nested]:
        for with_old in (False, True):
            for with_frames in (False, True):
                for _ in range(3):
                    files = {"processor_config.json": processor and processor(), "preprocessor_config.json": with_old and old(),
                             "video_preprocessor_config.json": with_frames and frames()}
                    yield {name: text for name, text in files.items() if text}


def limits_of(auto, folder):
    try:
        processor = auto.from_pretrained(folder)
    except (OSError, IndexError):  # no file holds them; 4.57 looks into an empty list
        return None
    size = dict(processor.size)
    if transformers.__version__.startswith("4."):  # it wrote them into the defaults of its class
        type(processor).size = dict(shortest_edge=3136, longest_edge=28 * 28 * 1280) if auto is AutoImageProcessor else dict(
            shortest_edge=128 * 28 * 28, longest_edge=28 * 28 * 768)
    return [size["shortest_edge"], size["longest_edge"]]


def decided(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (files | {"config.json": dict(model_type="qwen2_5_vl")}).items():
            (Path(folder) / name).write_text(json.dumps(text))
        return dict(files=files, image=limits_of(AutoImageProcessor, folder), video=limits_of(AutoVideoProcessor, folder))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    transformers.logging.set_verbosity_error()
    if parser.parse_args().check:
        for golden in json.loads(OUT.read_text())["folders"]:
            if (found := decided(golden["files"])) != golden:
                print(json.dumps(golden), f"{transformers.__version__}: image {found['image']}, video {found['video']}", sep="\n  ")
        return
    OUT.parent.mkdir(exist_ok=True)
    rng = random.Random(16)
    goldens = [decided(files) for files in folders(rng)]
    lines = ",\n".join(json.dumps(golden) for golden in goldens)
    OUT.write_text(f'{{"transformers": "{transformers.__version__}", "folders": [\n{lines}\n]}}\n')
    print(f"{len(goldens)} folders, {OUT.stat().st_size} bytes (transformers {transformers.__version__})")


if __name__ == "__main__":
    main()
