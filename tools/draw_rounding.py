#!/usr/bin/env python3
"""Draws what storing attention scores in bf16 does to them, as one SVG: the picture in docs/guide/precision.md.

    tools/draw_rounding.py docs/pictures/rounding.svg

Six keys differ by a few nats, once around 5 and once around 9,280, as key biases make them. Nothing is measured: the
script rounds each score to bf16 itself and computes the softmax of both. Needs nothing but Python.
"""
import argparse
import math
import struct
from xml.sax.saxutils import escape

NATS = [-6, -4, -2, 0, -3, -5]  # below the right key, the fourth
BASES = [5, 9285]               # the right key's score
BAR, GAP, TOP, HEIGHT, PANEL = 30, 8, 96, 120, 300

STYLE = '''
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 12px; fill: #59636e }
.title { font-size: 16px; font-weight: 600 }
.bad { fill: #d1242f } .good { fill: #0969da } .other { fill: #afb8c1 }
.ground { stroke: #59636e }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .small { fill: #9198a1 } .bad { fill: #f85149 } .other { fill: #656c76 } }
'''


def bf16(value):
    """The nearest bf16 number, ties to even."""
    bits = struct.unpack('<I', struct.pack('<f', value))[0]
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000
    return struct.unpack('<f', struct.pack('<I', bits))[0]


def softmax(scores):
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def spacing(value):
    """How far neighbouring bf16 numbers lie apart there: 8 significant bits."""
    return 2.0 ** (math.floor(math.log2(value)) - 7)


def text(x, y, words, style='', anchor='middle'):
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'


def panel(left, top, title, scores, right):
    parts = [text(left, top - 30, title, 'small', 'start')]
    for i, (score, weight) in enumerate(zip(scores, softmax(scores))):
        x, height = left + i * (BAR + GAP), max(1.5, HEIGHT * weight)
        style = 'other' if i != NATS.index(0) else 'good' if right else 'bad'
        parts += [f'<rect class="{style}" x="{x}" y="{top + HEIGHT - height:.1f}" width="{BAR}" height="{height:.1f}" rx="2"/>',
                  text(x + BAR / 2, f'{top + HEIGHT - height - 5:.1f}', f'{100 * weight:.0f} %', 'small'),
                  text(x + BAR / 2, top + HEIGHT + 16, f'{score:g}', 'small')]
    width = len(scores) * (BAR + GAP) - GAP
    parts.append(f'<line class="ground" x1="{left}" x2="{left + width}" y1="{top + HEIGHT}" y2="{top + HEIGHT}"/>')
    return parts


def draw():
    parts = [text(16, 30, 'Six keys, one of them right: their softmax weights', 'title', 'start')]
    for row, base in enumerate(BASES):
        scores = [base + nats for nats in NATS]
        stored = [bf16(score) for score in scores]
        top = TOP + row * (HEIGHT + 88)
        kept = softmax(stored)[NATS.index(0)] > 0.5
        parts += panel(16, top, 'scores in fp32 (sdpa, flash_attention_2)', scores, True)
        parts += panel(16 + PANEL, top, f'stored in bf16 (eager): steps of {spacing(base):g}', stored, kept)
    height = TOP + 2 * HEIGHT + 88 + 56
    parts.append(text(16, height - 12, 'Below the bars: scores. Coloured: the right key. Their differences are the same in both rows.', 'small', 'start'))
    body = '\n'.join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL * 2 - 20} {height}" role="img" '
            f'aria-label="Softmax weights of six keys. Around a score of 5 fp32 and bf16 agree; around 9285 bf16 makes all keys equal.">\n'
            f'<style>{STYLE}</style>\n{body}\n</svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out')
    with open(parser.parse_args().out, 'w', encoding='utf-8') as file:
        file.write(draw())


if __name__ == '__main__':
    main()
