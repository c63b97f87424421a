#!/usr/bin/env python3
"""Compares a fine-tune with its base on your questions, and says which attention the fine-tune is safe with.

    audit_finetune.py Qwen/Qwen2.5-VL-3B-Instruct my-finetune questions.jsonl

Both answer every question greedily in the checkpoint's dtype; what was lost and what was won is listed. Then the fine-tune
is audited, because training moves weights and with them the scores. Writes base.json, tuned.json, audit.json, audit.html.
"""
import json
import subprocess
import sys


def fovea(*arguments):
    done = subprocess.run(['fovea', *arguments], stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(done.returncode)  # fovea has said why


def answers(model, suite, path):
    fovea('eval', '--quiet', '-m', model, '--suite', suite, '--json', path)
    with open(path, encoding='utf-8') as file:
        return {item['id']: item for item in json.load(file)['configurations'][0]['items']}


def listed(title, ids, base, tuned):
    print(f'{title}: {len(ids)}')
    for name in ids[:10]:
        print(f'  {name}: expected {base[name]["expected"]}, base {base[name]["answer"]!r}, fine-tune {tuned[name]["answer"]!r}')


def main():
    if len(sys.argv) != 4:
        sys.exit('usage: audit_finetune.py BASE TUNED SUITE')
    base_model, tuned_model, suite = sys.argv[1:]
    base, tuned = answers(base_model, suite, 'base.json'), answers(tuned_model, suite, 'tuned.json')
    asked = [name for name in base if name in tuned]
    print(f'{len(asked)} questions, base right {sum(base[name]["correct"] for name in asked)}, '
          f'fine-tune right {sum(tuned[name]["correct"] for name in asked)}')
    listed('lost', [name for name in asked if base[name]['correct'] and not tuned[name]['correct']], base, tuned)
    listed('won', [name for name in asked if tuned[name]['correct'] and not base[name]['correct']], base, tuned)
    fovea('audit', '--quiet', '-m', tuned_model, '--suite', suite, '--json', 'audit.json', '--report', 'audit.html')
    with open('audit.json', encoding='utf-8') as file:
        for sentence in json.load(file)['conclusion']:
            print(sentence)


if __name__ == '__main__':
    main()
