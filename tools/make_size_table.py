#!/usr/bin/env python3
"""What 3B and 7B need and how fast they are, as `fovea advise` predicts it, beside what `fovea run` measures.

    tools/make_size_table.py --program build/fovea --write                       # predictions
    tools/make_size_table.py --program build/fovea --measure 3b=DIR --write      # and measured on DIR

DIR is a folder of that size, a real one or `fovea synth --config 3b --out DIR`. A page is a picture of 1240 x 1754
pixels (A4 at 150 dpi), 2,772 tokens. --write puts the table into docs/measurements/sizes.md, otherwise it is printed.
Nothing else should compute meanwhile: the machine's limits are measured again first.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(REPOSITORY, 'docs', 'measurements', 'sizes.md')
PAGE = (1240, 1754)
ANSWER = 64
STORAGES = [('bf16', 'weights as stored'), ('int8', 'fovea quantize int8'), ('int4', 'fovea quantize int4')]


def json_of(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f'{" ".join(command)}\n{done.stderr}')
    return json.loads(done.stdout)


def predicted(program, size, pages):
    """The ways of one advice, by name; memory is not limited, so that every storage has its figures."""
    return json_of([program, 'advise', '--config', size, '--images', f'{pages}@{PAGE[0]}x{PAGE[1]}', '--max-new-tokens',
                    str(ANSWER), '--prefer', 'throughput', '--ram', '512G', '--json'])


def page_file(folder):
    """A page of noise as a portable path: a BMP needs no library, and noise has the tokens of any picture."""
    width, height = PAGE
    row = bytes((i * 73 + 11) % 251 for i in range(3 * width))
    row += b'\0' * (-len(row) % 4)
    body = b''.join(row[j % 97 * 3:] + row[:j % 97 * 3] for j in range(height))
    header = (b'BM' + (54 + len(body)).to_bytes(4, 'little') + bytes(4) + (54).to_bytes(4, 'little') +
              (40).to_bytes(4, 'little') + width.to_bytes(4, 'little') + height.to_bytes(4, 'little') +
              (1).to_bytes(2, 'little') + (24).to_bytes(2, 'little') + bytes(24))
    path = os.path.join(folder, 'page.bmp')
    with open(path, 'wb') as file:
        file.write(header + body)
    return path


def measured(program, folder, storage, pages, scratch):
    model = folder
    if storage != 'bf16':
        model = os.path.join(scratch, f'{os.path.basename(folder.rstrip("/"))}-{storage}')
        if not os.path.isdir(model):
            subprocess.run([program, 'quantize', '-m', folder, '--out', model, '--weights', storage], check=True)
    command = [program, 'run', '-m', model, '--greedy', '--ignore-eos', '--prompt-lookup-num-tokens', '0', '--max-new-tokens',
               str(ANSWER), '--json'] + ['--image', page_file(scratch)] * pages + ['Read the text.']
    answer = json_of(command)
    times = answer['timings']
    return {'peak_bytes': answer['peak_memory_bytes'], 'first_token_s': times['vision_s'] + times['prefill_s'],
            'tokens_per_s': times['decode_tokens_per_s']}


def figures(way):
    return [f'{way["peak_bytes"] / 1e9:.1f} GB', f'{way["first_token_s"]:.0f} s', f'{way["tokens_per_s"]:.2f}']


def rows(arguments, scratch):
    folders = dict(entry.split('=', 1) for entry in arguments.measure)
    for size in ('3b', '7b'):
        for pages in (1, 10):
            ways = {way['name']: way for way in predicted(arguments.program, size, pages)['ways']}
            for storage, name in STORAGES:
                cells = [size.upper(), storage, str(pages)] + figures(ways[name])
                if size in folders and pages <= arguments.measured_pages:
                    cells += figures(measured(arguments.program, folders[size], storage, pages, scratch))
                else:
                    cells += ['not measured', '', '']
                yield '| ' + ' | '.join(cells) + ' |'


def document(arguments, scratch):
    subprocess.run([arguments.program, 'advise', '--config', '3b', '--remeasure'], check=True, stdout=subprocess.DEVNULL)
    machine = predicted(arguments.program, '3b', 1)['machine']
    commit = subprocess.run(['git', '-C', REPOSITORY, 'rev-parse', '--short', 'HEAD'], stdout=subprocess.PIPE, text=True).stdout
    head = f'''# What 3B and 7B need, and how fast they are

Made by `tools/make_size_table.py{''.join(f' --measure {m.split("=")[0]}=DIR' for m in arguments.measure)} --write` on
{datetime.date.today()}, commit {commit.strip()}: {machine['cpu']}, {machine['threads']} threads, kernels {machine['kernels']}; reading
{machine['read_gbps']:.1f} GB/s, bf16 {machine['bf16_gflops']:.0f} GFLOP/s, int8 {machine['int8_gops']:.0f} Gop/s, {platform.system()}.

A page is a picture of {PAGE[0]} x {PAGE[1]} pixels (A4 at 150 dpi), 2,772 tokens; the answer has {ANSWER} tokens. Memory is the
peak of the whole process, mapped weights included; the first token comes after vision and prefill. bf16 is the
checkpoint as it is, int8 and int4 are folders of `fovea quantize --weights`. `fovea advise --config 3b --images
1@{PAGE[0]}x{PAGE[1]}` predicts the same for your machine.

| model | weights | pages | memory, predicted | first token | tokens a second | memory, measured | first token | tokens a second |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
'''
    return head + '\n'.join(rows(arguments, scratch)) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--program', default='build/fovea')
    parser.add_argument('--measure', action='append', default=[], metavar='SIZE=DIR', help='run this folder, too')
    parser.add_argument('--measured-pages', type=int, default=1, metavar='N', help='measure up to so many pages (default 1)')
    parser.add_argument('--scratch', help='where quantized folders go (default: a temporary folder)')
    parser.add_argument('--write', action='store_true', help=f'write {os.path.relpath(TARGET, REPOSITORY)}')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        text = document(arguments, scratch)
    if not arguments.write:
        print(text, end='')
        return
    os.makedirs(os.path.dirname(TARGET), exist_ok=True)
    with open(TARGET, 'w', encoding='utf-8') as file:
        file.write(text)


if __name__ == '__main__':
    main()
