#!/usr/bin/env python3
"""Reads a folder of scans into one CSV file, a row for each scan.

    FOVEA_MODEL=Qwen/Qwen2.5-VL-3B-Instruct folder_of_scans.py scans/ scans.csv

Scans are answered side by side (fovea batch), each as it would be alone. Ctrl-C and the same command again: it goes on
where it ended; answers stay in scans.csv.answers.jsonl. Change FIELDS and PROMPT for what you want to know.
"""
import csv
import json
import pathlib
import subprocess
import sys

FIELDS = {'sender': {'type': 'string', 'maxLength': 80}, 'date': {'type': 'string', 'maxLength': 20},
          'total': {'type': 'number', 'minimum': 0, 'maximum': 10000000}}
PROMPT = 'Who sent this, when, and what is the total? Answer with JSON: sender, date, total.'
PICTURES = {'.png', '.jpg', '.jpeg', '.webp', '.tif', '.tiff', '.bmp', '.gif'}


def request(scan):
    schema = {'type': 'object', 'properties': FIELDS, 'required': list(FIELDS)}
    return {'custom_id': scan.name, 'method': 'POST', 'url': '/v1/chat/completions', 'body': {
        'messages': [{'role': 'user', 'content': [
            {'type': 'image_url', 'image_url': {'url': str(scan.resolve())}}, {'type': 'text', 'text': PROMPT}]}],
        'max_tokens': 512, 'temperature': 0,
        'response_format': {'type': 'json_schema', 'json_schema': {'name': 'scan', 'strict': True, 'schema': schema}}}}


def row(line):
    """What one line of the answers says, and what went wrong, if something did."""
    response = line.get('response') or {}
    if line.get('error') or response.get('status_code') != 200:
        return {'scan': line['custom_id'], 'problem': json.dumps(line.get('error') or response.get('body'))}
    choice = response['body']['choices'][0]
    if choice['finish_reason'] != 'stop':
        return {'scan': line['custom_id'], 'problem': f'the answer was cut: {choice["finish_reason"]}'}
    return {'scan': line['custom_id'], **json.loads(choice['message']['content'])}


def main():
    if len(sys.argv) != 3:
        sys.exit('usage: folder_of_scans.py FOLDER OUT.csv')
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    scans = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not scans:
        sys.exit(f'{folder}: no pictures; a PDF becomes pictures by pdftoppm -r 150 -png FILE.pdf page')
    requests, answers = out + '.requests.jsonl', out + '.answers.jsonl'
    pathlib.Path(requests).write_text(''.join(json.dumps(request(scan)) + '\n' for scan in scans), encoding='utf-8')
    done = subprocess.run(['fovea', 'batch', '--quiet', '--input', requests, '--output', answers])
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    lines = [json.loads(line) for line in pathlib.Path(answers).read_text(encoding='utf-8').splitlines()]
    rows = sorted((row(line) for line in lines if 'custom_id' in line), key=lambda entry: entry['scan'])
    with open(out, 'w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, ['scan', *FIELDS, 'problem'])
        writer.writeheader()
        writer.writerows(rows)
    bad = sum('problem' in entry for entry in rows)
    print(f'{out}: {len(rows)} scans, {bad} with a problem')
    return bool(bad)


if __name__ == '__main__':
    sys.exit(main())
