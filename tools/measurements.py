#!/usr/bin/env python3
"""Measures what can be measured anywhere, and makes pages of docs/measurements from the JSON beside them.

    tools/measurements.py answers [--program build/fovea] [--model models/fovea-demo] [--limit N]
    tools/measurements.py sizes [--program build/fovea]
    tools/measurements.py render [--check]

`answers` asks the demo model questions of each kind under many configurations (fovea suite make, fovea audit) and keeps
counts and divergences in answers.json. `sizes` asks fovea plan what the published sizes need and keeps it in sizes.json.
Both may be stopped and begun again: audits go on where they were. plan.json is written by tools/check_plan.py. `render`
makes answers.md, sizes.md and plan.md from them; with --check it writes nothing and fails where a page is not what its
JSON says. Needs nothing but Python.
"""
import argparse
import datetime
import json
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / 'docs' / 'measurements'
SEED = 31337
KINDS = [('easy', 200), ('multi-image', 200), ('long-context', 50)]
INT8 = 'k_cache=int8;text.{0}v_cache=int8'
PRESETS = ['sdpa', 'flash-bf16', 'eager-bf16', 'eager-fp16-old', 'eager-qkv-fp32', 'eager-bf16-maxshift',
           'eager-bf16-kcentred', 'eager-bf16-bias-split', 'flash-bf16-bias-split', 'balanced', 'fast']
CACHES = [('int8, `--kv-cache-dtype int8` (one of three layers)',
           'flash-bf16:text.layers.1.k_cache=int8;text.layers.1.v_cache=int8;text.layers.1.bias_split=on'),
          ('int8 in every layer, bias split', 'flash-bf16:text.k_cache=int8;text.v_cache=int8;text.bias_split=on'),
          ('int8 in every layer, naive', 'flash-bf16:text.k_cache=int8;text.v_cache=int8')]
BUDGETS = [16, 32, 64, 128, 256]
SHAPES = [('3b', 1), ('3b', 10), ('7b', 1), ('7b', 10), ('32b', 1), ('72b', 1)]
PAGE = '1240x1754'


def run(command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f'{" ".join(str(part) for part in command)}\n{done.stderr}')
    return done.stdout


def keep(name, data):
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_text(json.dumps(data, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


# ---- answers ----

def audit(arguments, kind, count, compare, *flags):
    """The JSON of an audit of `count` questions of this kind; an earlier one of the same name is taken as it is."""
    suite = arguments.scratch / 'suites' / f'{kind}-{count}'
    if not suite.is_dir():
        run([arguments.program, 'suite', 'make', '--kind', kind, '--count', count, '--seed', SEED, '--out', suite])
    result = arguments.scratch / f'{kind}-{count}{"-budgets" if flags else ""}.json'
    if not (result.is_file() and (arguments.as_they_are or json.loads(result.read_text())['complete'])):
        run([arguments.program, 'audit', '-m', arguments.model, '--suite', suite, '--compare', ','.join(compare),
             '--max-new-tokens', 8, '--json', result, *flags])
    return json.loads(result.read_text())


def short(configuration):
    return {key: configuration[key] for key in ('name', 'correct', 'count', 'errors', 'kl', 'rows_at_risk', 'rows',
                                                'largest_score')}


def measure_answers(arguments):
    compare = PRESETS + [policy for _, policy in CACHES]
    suites = []
    for kind, count in KINDS:
        found = audit(arguments, kind, min(count, arguments.limit), compare)
        suites.append({'kind': kind, 'count': found['suite']['items'], 'complete': found['complete'],
                       'configurations': [short(entry) for entry in found['configurations']]})
    budgets = audit(arguments, 'multi-image', min(60, arguments.limit), ['flash-bf16'], '--image-budgets',
                    ','.join(str(budget) for budget in BUDGETS))
    machine = found['machine']
    keep('answers.json', {
        'made_by': 'tools/measurements.py answers', 'date': str(datetime.date.today()), 'seed': SEED,
        'fovea': machine['version'], 'kernels': machine['kernels'], 'suites': suites, 'image_budgets_date': str(datetime.date.today()),
        'image_budgets': [{'name': entry['name'], 'rows': [
            {key: row[key] for key in ('budget', 'correct', 'count')} for row in entry['by_image_budget']]}
            for entry in budgets['configurations']]})


def cell(entry):
    if entry['errors'] == entry['count']:
        return 'stops'
    kl = '' if entry['kl'] is None else f', KL {entry["kl"]:.1e}'
    return f'{entry["correct"]} of {entry["count"]}{kl}'


def row_of(suites, name, label):
    cells = [cell(next(entry for entry in suite['configurations'] if entry['name'] == name)) for suite in suites]
    return f'| {label} | ' + ' | '.join(cells) + ' |'


def stopped(suites):
    """Says of an audit that was ended early how many of its questions stand here."""
    return ''.join(f' `{suite["kind"]}` was stopped after {suite["configurations"][0]["count"]} of {suite["count"]} questions.'
                   for suite in suites if not suite['complete'])


def render_answers(data):
    suites = data['suites']
    head = ['| configuration | ' + ' | '.join(suite['kind'] for suite in suites) + ' |', '| --- |' + ' --- |' * len(suites)]
    presets = [row_of(suites, name, f'`{name}`') for name in ['fp32'] + PRESETS]
    caches = [row_of(suites, 'flash-bf16', 'bf16')] + [row_of(suites, name, label) for label, name in CACHES]
    budgets = data['image_budgets']
    header = '| total of image tokens | ' + ' | '.join(str(row['budget']) for row in budgets[0]['rows']) + ' |'
    images = [header, '| --- |' + ' --- |' * len(budgets[0]['rows'])]
    images += [f'| `{entry["name"]}`, right | ' + ' | '.join(f'{row["correct"]} of {row["count"]}' for row in entry['rows']) +
               ' |' for entry in budgets]
    risk = next(suite for suite in suites if suite['kind'] == 'multi-image')
    risk = next(entry for entry in risk['configurations'] if entry['name'] == 'eager-bf16')
    return '\n'.join([
        '# Right answers of the demo model', '',
        f'Made from [answers.json](answers.json) by `tools/measurements.py render`; measured by `tools/measurements.py answers`',
        f'on {data["date"]}, fovea {data["fovea"]}, kernels {data["kernels"]}. Questions are those of `fovea suite make --kind KIND --seed',
        f'{data["seed"]}`, in handwriting that was not in the training of [models/fovea-demo](../../models/fovea-demo/README.md), with',
        'answers of at most 8 tokens.' + stopped(suites),
        'KL is the mean divergence from fp32 in nats per token of its answer. This is one small model: what it shows is',
        'where rounding begins to cost answers, not what yours will lose.', '',
        '## Under every preset', '', *head, *presets, '',
        f'In `eager-bf16` on `multi-image` the largest scaled score is {risk["largest_score"]:.0f}, and of {risk["rows"]:,} rows that were',
        f'examined {risk["rows_at_risk"]:,} had scores too coarse for their type.', '',
        '## Keys and values in 8 bits', '', *head, *caches, '',
        '## Fewer image tokens', '',
        f'Several cards in a question, {budgets[0]["rows"][-1]["count"]} questions, each asked again under a smaller total of image tokens',
        f'(`fovea audit --image-budgets`, {data["image_budgets_date"]}). A question whose pictures cannot be made that small is not asked.',
        '', *images, ''])


# ---- sizes ----

def measure_sizes(arguments):
    rows = []
    for shape, pages in SHAPES:
        found = json.loads(run([arguments.program, 'advise', '--config', shape, '--images', f'{pages}@{PAGE}',
                                '--max-new-tokens', 256, '--prefer', 'throughput', '--ram', '1T', '--json']))
        rows.append({'model': shape, 'pages': pages, 'peak_bytes': {
            way['name']: way['peak_bytes'] for way in found['ways'] if way.get('peak_bytes')}})
    keep('sizes.json', {'made_by': 'tools/measurements.py sizes', 'date': str(datetime.date.today()), 'page': PAGE,
                        'threads': found['machine']['threads'], 'rows': rows})


def render_sizes(data):
    names = ['weights as stored', 'fovea quantize int8', 'fovea quantize int4']
    lines = ['# Memory by model size', '',
             f'Made from [sizes.json](sizes.json) by `tools/measurements.py render`; asked of `fovea advise --config SIZE` by',
             f'`tools/measurements.py sizes` on {data["date"]}. Predicted peak of the whole process, mapped weights included, for pages of',
             f'{data["page"].replace("x", " x ")} pixels (A4 at 150 dpi, 2,772 tokens), 256 tokens of answer and {data["threads"]} threads. How near predictions',
             'come: [plan.md](plan.md). No weights were read, and no time was measured.', '',
             '| model | pages | ' + ' | '.join(names) + ' |', '| --- | ---: |' + ' ---: |' * len(names)]
    for row in data['rows']:
        cells = [f'{row["peak_bytes"][name] / 1e9:.1f} GB' if name in row['peak_bytes'] else '-' for name in names]
        lines.append(f'| {row["model"].upper()} | {row["pages"]} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines + [''])


# ---- plan ----

def render_plan(data):
    low, high = data['bounds']
    errors = [row['error'] for row in data['rows']]
    outside = sum(not low <= error <= high for error in errors)
    lines = ['# Memory: predicted and measured', '',
             'Made from [plan.json](plan.json) by `tools/measurements.py render`; measured by `tools/check_plan.py --big DIR_OF_3B --write`',
             '(DIR_OF_3B: `fovea synth --config 3b --out DIR_OF_3B`). Maximum resident set of `fovea run`, as the kernel states it for the',
             f'ended process, against `fovea plan` with the same flags. Predicted less measured is to be between {low:+.0f} % and {high:+.0f} % of',
             f'measured, and the command fails otherwise. Of these {len(errors)} rows {outside} are outside; lowest {min(errors):+.1f} %, highest',
             f'{max(errors):+.1f} %. Peaks of the smallest runs are mostly the program itself.', '',
             '| model | images | context | flags | planned MB | measured MB | difference | peak while | measured on |',
             '| --- | --- | ---: | --- | ---: | ---: | ---: | --- | --- |']
    for row in data['rows']:
        lines.append(f'| {row["model"]} | {row["images"]} | {row["context"]} | `{row["flags"]}` | {row["planned_mb"]:.1f} | '
                     f'{row["measured_mb"]:.1f} | {row["error"]:+.1f} % | {row["phase"]} | {row["date"]} |')
    return '\n'.join(lines + [''])


PAGES = [('answers', render_answers), ('sizes', render_sizes), ('plan', render_plan)]


def render(check):
    stale = []
    for name, page in PAGES:
        text = page(json.loads((FOLDER / f'{name}.json').read_text(encoding='utf-8')))
        target = FOLDER / f'{name}.md'
        if check and (not target.is_file() or target.read_text(encoding='utf-8') != text):
            stale.append(target.name)
        elif not check:
            target.write_text(text, encoding='utf-8')
    if stale:
        raise SystemExit(f'{", ".join(stale)}: not what the JSON says; tools/measurements.py render makes them anew')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['answers', 'sizes', 'render'])
    parser.add_argument('--program', default=str(REPOSITORY / 'build' / 'fovea'))
    parser.add_argument('--model', default=str(REPOSITORY / 'models' / 'fovea-demo'))
    parser.add_argument('--limit', type=int, default=10**9, metavar='N', help='at most N questions of a kind, to try it')
    parser.add_argument('--scratch', type=pathlib.Path, default=REPOSITORY / 'build' / 'measurements', metavar='DIR',
                        help='suites and whole audits stay here (default: build/measurements)')
    parser.add_argument('--as-they-are', action='store_true', help='of answers: take audits that were stopped for what they have')
    parser.add_argument('--check', action='store_true', help='of render: compare, write nothing')
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    if arguments.what == 'render':
        render(arguments.check)
    else:
        {'answers': measure_answers, 'sizes': measure_sizes}[arguments.what](arguments)


if __name__ == '__main__':
    sys.exit(main())
