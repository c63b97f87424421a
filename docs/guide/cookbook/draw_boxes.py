#!/usr/bin/env python3
"""Asks where something is in a picture and draws the boxes on it.

    FOVEA_MODEL=Qwen/Qwen2.5-VL-3B-Instruct draw_boxes.py photo.jpg boxes.svg "every car"

The answer is held to a JSON schema, so that it always parses. The model names pixels of the picture as it saw it, resized;
they are turned into pixels of the file. The SVG holds the picture itself and opens in any browser; nothing but Python is
needed. Boxes are also printed, one JSON object a line.
"""
import base64
import json
import mimetypes
import subprocess
import sys
from xml.sax.saxutils import escape

BOX = {'type': 'array', 'items': {'type': 'integer', 'minimum': 0, 'maximum': 99999}, 'minItems': 4, 'maxItems': 4}
SCHEMA = {'type': 'array', 'minItems': 1, 'maxItems': 50, 'items': {
    'type': 'object', 'properties': {'bbox_2d': BOX, 'label': {'type': 'string', 'maxLength': 40}},
    'required': ['bbox_2d', 'label']}}


def ask(picture, what):
    command = ['fovea', 'run', '--quiet', '--json', '--greedy', '-n', '2048', '--json-schema', json.dumps(SCHEMA), '--image', picture,
               '-p', f'Find {what}. Answer with a JSON list of {{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}.']
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(done.returncode)  # fovea has said why
    return json.loads(done.stdout)


def in_the_file(box, image):
    """Pixels of the resized picture to those of the file; what lies outside is clipped, corners are put in order."""
    width, height = image['original']['width'], image['original']['height']
    xs = sorted(min(x * width / image['resized']['width'], width) for x in box[::2])
    ys = sorted(min(y * height / image['resized']['height'], height) for y in box[1::2])
    return [round(xs[0]), round(ys[0]), round(xs[1]), round(ys[1])]


def drawing(picture, image, found):
    width, height = image['original']['width'], image['original']['height']
    kind = mimetypes.guess_type(picture)[0] or 'image/png'
    with open(picture, 'rb') as file:
        data = base64.b64encode(file.read()).decode()
    stroke = max(2, width // 300)
    parts = [f'<image width="{width}" height="{height}" href="data:{kind};base64,{data}"/>']
    for entry in found:
        x1, y1, x2, y2 = entry['box']
        parts += [f'<rect x="{x1}" y="{y1}" width="{x2 - x1}" height="{y2 - y1}" fill="none" stroke="#d1242f" stroke-width="{stroke}"/>',
                  f'<text x="{x1}" y="{max(y1 - stroke, 6 * stroke)}" fill="#d1242f" font-family="sans-serif" '
                  f'font-size="{6 * stroke}">{escape(entry["label"])}</text>']
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n' +
            '\n'.join(parts) + '\n</svg>\n')


def main():
    if len(sys.argv) != 4:
        sys.exit('usage: draw_boxes.py PICTURE OUT.svg "what to find"')
    picture, out, what = sys.argv[1:]
    answer = ask(picture, what)
    if answer['finish_reason'] != 'stop':
        sys.exit(f'the answer was cut ({answer["finish_reason"]}): {answer["text"][-80:]}')
    image = answer['images'][0]
    found = [{'label': entry['label'], 'box': in_the_file(entry['bbox_2d'], image)} for entry in json.loads(answer['text'])]
    with open(out, 'w', encoding='utf-8') as file:
        file.write(drawing(picture, image, found))
    for entry in found:
        print(json.dumps(entry, ensure_ascii=False))


if __name__ == '__main__':
    main()
