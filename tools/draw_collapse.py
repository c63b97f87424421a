#!/usr/bin/env python3
"""Draws an audit's accuracy by kind of question and configuration as one SVG: the picture at the top of README.md.

    make demo                                                              # writes build/demo/audit.json
    tools/draw_collapse.py build/demo/audit.json docs/pictures/collapse.svg

Needs nothing but Python. The figures, counts and names are those of the audit; the caption says how many questions.
"""
import argparse
import json
from xml.sax.saxutils import escape

KINDS = [('easy', 'one picture or fact'), ('multi-image', 'several pictures'), ('long-context', 'long text')]
SHOWN = [('eager-bf16', 'eager, bf16', 'bad'), ('sdpa', 'sdpa, bf16', 'good'),
         ('flash-bf16', 'flash_attention_2, bf16', 'better')]
BAR, GAP, GROUP, LEFT, TOP, HEIGHT = 62, 6, 56, 16, 84, 190

STYLE = '''
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 12px; fill: #59636e }
.title { font-size: 16px; font-weight: 600 }
.bad { fill: #d1242f } .good { fill: #54aeff } .better { fill: #0969da }
.ground { stroke: #59636e }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .small { fill: #9198a1 } .bad { fill: #f85149 } }
'''


def share_of(configuration, kind):
    for row in configuration['by_tag']:
        if row['tag'] == 'kind' and row['value'] == kind:
            return row
    raise SystemExit(f'the audit has no questions of kind {kind}: give it the audit.json of `make demo`')


def text(x, y, words, style='', anchor='middle'):
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'


def bar(x, row, style):
    height = max(1.5, HEIGHT * row['accuracy'])
    y = TOP + HEIGHT - height
    return [f'<rect class="{style}" x="{x}" y="{y:.1f}" width="{BAR}" height="{height:.1f}" rx="2"/>',
            text(x + BAR / 2, f'{y - 6:.1f}', f'{100 * row["accuracy"]:.0f} %')]


def legend(y):
    parts, x = [], LEFT
    for _, label, style in SHOWN:
        parts += [f'<rect class="{style}" x="{x}" y="{y - 11}" width="13" height="13" rx="2"/>',
                  text(x + 19, y, label, anchor='start')]
        x += 34 + 8 * len(label)
    return parts


def draw(audit):
    configurations = {c['name']: c for c in audit['configurations']}
    missing = [name for name, _, _ in SHOWN if name not in configurations]
    if missing:
        raise SystemExit(f'the audit has no {", ".join(missing)}: give it the audit.json of `make demo`')
    group = len(SHOWN) * (BAR + GAP)
    width = 2 * LEFT + len(KINDS) * group + (len(KINDS) - 1) * GROUP
    parts = [text(LEFT, 22, 'Right answers of the same weights, by attn_implementation', 'title', 'start'), *legend(46)]
    for k, (kind, words) in enumerate(KINDS):
        x = LEFT + k * (group + GROUP)
        for i, (name, _, style) in enumerate(SHOWN):
            row = share_of(configurations[name], kind)
            parts += bar(x + i * (BAR + GAP), row, style)
        parts += [f'<line class="ground" x1="{x}" x2="{x + group - GAP}" y1="{TOP + HEIGHT}" y2="{TOP + HEIGHT}"/>',
                  text(x + (group - GAP) / 2, TOP + HEIGHT + 20, words),
                  text(x + (group - GAP) / 2, TOP + HEIGHT + 37, f'{row["count"]} questions', 'small')]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 50}" role="img" '
            f'aria-label="Accuracy by attention implementation"><style>{STYLE}</style>\n' + '\n'.join(parts) + '\n</svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('audit', help='audit.json of `make demo`')
    parser.add_argument('svg', help='where to write the picture')
    arguments = parser.parse_args()
    with open(arguments.audit, encoding='utf-8') as file:
        picture = draw(json.load(file))
    with open(arguments.svg, 'w', encoding='utf-8') as file:
        file.write(picture)


if __name__ == '__main__':
    main()
