#!/usr/bin/env python3
"""What to run in so much memory: sizes and ways of `fovea advise`, side by side. No weights are needed.

    choose.py 14G              16 GB less what the system and a browser take
    choose.py 14G 4            for four pages of A4 in a request
"""
import json
import subprocess
import sys

if not 2 <= len(sys.argv) <= 3:
    sys.exit('usage: choose.py RAM [PAGES]')
RAM, PAGES = sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else '1'


def advice(size, prefer):
    done = subprocess.run(['fovea', 'advise', '--config', size, '--images', f'{PAGES}@1240x1754', '--max-new-tokens', '512', '--ram', RAM,
                           '--prefer', prefer, '--json'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == 1:  # nothing fits; the reasons are long
        return None
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


print(f'{"size":5}{"prefer":12}{"weights":34}{"memory":>9}{"first token":>13}{"tokens/s":>10}')
notes = set()
for size in ('3b', '7b'):
    for prefer in ('accuracy', 'latency', 'throughput'):
        found = advice(size, prefer)
        if found is None:
            print(f'{size:5}{prefer:12}nothing fits')
            continue
        notes.update(note for note in found['machine']['notes'] if 'doubtful' in note)
        weights = next(choice for choice in found['choices'] if choice['what'] == 'weights')['value']
        print(f'{size:5}{prefer:12}{weights:34}{found["peak_bytes"] / 1e9:6.1f} GB{found["first_token_s"]:11.0f} s{found["tokens_per_s"]:10.2f}')
for note in notes:
    print('note:', note)
