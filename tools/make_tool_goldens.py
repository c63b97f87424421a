#!/usr/bin/env python3
"""Writes the goldens of conversations with tools: what agents send, and what transformers 5 renders from the Jinja text.

  python3 tools/make_tool_goldens.py [--also FILE.jinja]...      (needs `pip install transformers==5.24.0 jinja2`; seeded)

As make_chat_goldens.py, whose texts and pictures it uses. transformers 5 drops fields of null before the template sees
them; 4.57 fails on null content. Output: tests/data/chat_template/tool_goldens.json.xz.
"""
import argparse
import json
import lzma
import random
from pathlib import Path

import transformers
from tokenizers import Tokenizer
from tokenizers.models import BPE

from make_chat_goldens import IMAGES, ROOT, TEXTS, content


def call(name, **arguments):
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def tool_conversations(rng):
    """What an OpenAI client sends: calls of tools, their answers, fields of null, and names that no template reads."""
    ask = {"role": "user", "content": [IMAGES[0], {"type": "text", "text": "How warm is it there?"}]}
    calls = {"role": "assistant", "content": None, "tool_calls": [call("find_place"), call("weather", city="Bern")]}
    answer = {"role": "tool", "tool_call_id": "call_weather", "name": "weather", "content": '{"celsius": 21}'}
    yield [ask, calls, answer]
    yield [ask, calls, answer, {"role": "tool", "content": "none"}, {"role": "assistant", "content": "21 degrees."}, ask]
    yield [{"role": "system", "content": "Use tools."}, ask, {**calls, "content": ""}, answer]
    yield [ask, {**calls, "content": "Let me look.", "refusal": None}, answer]
    yield [{"role": "system", "content": None}, {"role": "user", "content": None, "name": "Ann"}]
    yield [answer, {"role": "user", "content": "A conversation that begins with a tool"}]
    yield [ask, calls, {**answer, "content": [{"type": "text", "text": "seen: "}, IMAGES[2], {"type": "text", "text": "."}]}]
    yield [ask, {"role": "assistant", "content": []}, {"role": "assistant", "content": None, "tool_calls": []}]
    for _ in range(60):
        said = [ask]
        for _ in range(rng.randint(1, 5)):
            one = dict(rng.choice([ask, calls, answer, {"role": "assistant", "content": rng.choice(TEXTS)}]))
            if rng.random() < 0.3:
                one["content"] = rng.choice([None, content(rng)])
            said.append(one)
        yield said


def render(template, messages, options):
    """Through a tokenizer's public function, which treats null fields as transformers 5 does."""
    return transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE())).apply_chat_template(
        messages, chat_template=template, tokenize=False, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--also", action="append", default=[], type=Path)
    also = [path.read_bytes().decode() for path in parser.parse_args().also]
    template = (ROOT / "models/qwen-tokenizer/chat_template.jinja").read_bytes().decode()
    rng = random.Random(43)
    goldens = []
    for messages in tool_conversations(rng):
        options = {"add_generation_prompt": rng.random() < 0.7, "add_vision_id": rng.random() < 0.5}
        text = render(template, messages, options)
        for other in also:
            assert render(other, messages, options) == text, (messages, options)
        goldens.append({"messages": messages, **options, "text": text})
    out = ROOT / "tests/data/chat_template/tool_goldens.json.xz"
    out.write_bytes(lzma.compress(json.dumps(goldens).encode(), preset=9))
    print(f"{out.relative_to(ROOT)}: {len(goldens)} conversations, {out.stat().st_size} bytes "
          f"(transformers {transformers.__version__})")


if __name__ == "__main__":
    main()
