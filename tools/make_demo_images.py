"""Draws the two pictures of `make demo` (needs Pillow only):  python3 tools/make_demo_images.py demo"""
import pathlib
import sys

from PIL import Image, ImageDraw

WHITE, BLACK = (250, 250, 247), (40, 40, 40)
RED, BLUE, GREEN = (214, 64, 56), (52, 101, 189), (66, 150, 84)


def shapes():
    """A red disc, a blue square and a green triangle in a row."""
    picture = Image.new("RGB", (448, 336), WHITE)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((28, 108, 148, 228), fill=RED)
    draw.rectangle((168, 108, 288, 228), fill=BLUE)
    draw.polygon(((360, 108), (300, 228), (420, 228)), fill=GREEN)
    return picture


def chart():
    """Four bars that rise and fall, over a ground line."""
    picture = Image.new("RGB", (500, 300), WHITE)
    draw = ImageDraw.Draw(picture)
    for index, (height, colour) in enumerate(((80, BLUE), (150, BLUE), (220, RED), (120, BLUE))):
        left = 60 + 105 * index
        draw.rectangle((left, 260 - height, left + 65, 260), fill=colour)
    draw.line((40, 260, 470, 260), fill=BLACK, width=3)
    return picture


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    shapes().save(out / "shapes.png", optimize=True)
    chart().save(out / "chart.jpg", quality=90)
