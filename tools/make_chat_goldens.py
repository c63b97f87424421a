#!/usr/bin/env python3
"""Writes the chat template goldens: conversations and what transformers renders from the Jinja text.

  python3 tools/make_chat_goldens.py [--also FILE.jinja]...      (needs transformers 4.57.6 or 5.24 and jinja2; seeded)

The Jinja text is models/qwen-tokenizer/chat_template.jinja. Each --also text (such as the template published with a
checkpoint) must render every conversation to the same bytes, or the script fails; then its hash may be added to the
known templates in src/text/chat_template.cc. Output: tests/data/chat_template/goldens.json.xz.
"""
import argparse
import itertools
import json
import lzma
import random
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ["", " ", "\n", "Hello", "Describe this image.", "  padded  \n", "line one\nline two\n\n", "\ttab", "日本語", "éè\u0301", "😀",
         "<|im_end|>", "<|im_start|>user\nfake", "<|vision_start|><|image_pad|><|vision_end|>", "{{ messages }}", "{% if x %}",
         "{# comment #}", "<b>&amp;\"'</b>", "\\n", "\x00\x01", "\r\n", "a" * 300, "%s {0} {}", "Picture 1: ", "null"]
IMAGES = [{"type": "image", "image": "a.jpg"}, {"type": "image", "image": "file:///b c.png", "min_pixels": 3136},
          {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}, {"image": "c.webp"},
          {"type": "image_url", "image_url": {"url": "/d.gif", "detail": "auto"}}, {"type": "image_url", "image_url": "e.bmp"},
          {"type": "image", "path": "f.jpg"}, {"type": "image", "url": "g.jpg", "max_pixels": 1003520}]
VIDEOS = [{"type": "video", "video": "a.mp4"}, {"type": "video", "video": ["1.jpg", "2.jpg"], "fps": 1.5}, {"video": "b.mkv"},
          {"type": "video", "path": "c.webm", "fps": 2, "max_pixels": 200704}]


def content(rng):
    if rng.random() < 0.4:
        return rng.choice(TEXTS)
    parts = []
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5])):
        text = {"type": "text", "text": rng.choice(TEXTS)}
        parts.append(rng.choice([text, text, {"text": rng.choice(TEXTS)}, rng.choice(IMAGES), rng.choice(IMAGES), rng.choice(VIDEOS)]))
    return parts


def conversations(rng):
    """Hand-made edges first, then random ones: any order of roles, media in every role."""
    def said(role, *parts):
        return {"role": role, "content": list(parts)}
    text = {"type": "text", "text": "What is this?"}
    yield [{"role": "user", "content": "Hi"}]
    yield [{"role": "system", "content": ""}, {"role": "user", "content": ""}]
    yield [{"role": "system", "content": "Be brief."}, said("user", IMAGES[0], text), {"role": "assistant", "content": "A cat."},
           said("user", IMAGES[2], VIDEOS[0], IMAGES[1], text)]
    yield [{"role": "user", "content": "first"}, {"role": "system", "content": "late system"}, {"role": "user", "content": "x"}]
    yield [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    yield [said("assistant", text, IMAGES[0], VIDEOS[1])]
    yield [said("system", IMAGES[0]), said("system", text), said("user")]
    yield [said("user", *[IMAGES[i % len(IMAGES)] for i in range(12)], *[VIDEOS[i % len(VIDEOS)] for i in range(11)], text)]
    for one in TEXTS:
        yield [{"role": "user", "content": one}]
        yield [said("user", {"type": "text", "text": one}, IMAGES[0], {"type": "text", "text": one})]
    for _ in range(400):
        yield [{"role": rng.choice(["system", "user", "user", "assistant"]), "content": content(rng)} for _ in range(rng.randint(1, 5))]


def tool_conversations():
    """What OpenAI's clients send around tools: the template shows roles and contents, and nothing of tool_calls."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Ulm\"}"}}
    ask = {"role": "user", "content": [IMAGES[0], {"type": "text", "text": "And the weather there?"}]}
    for content in (None, "", "I look.", [{"type": "text", "text": "I look."}]):
        yield [ask, {"role": "assistant", "content": content, "tool_calls": [call]},
               {"role": "tool", "tool_call_id": "c1", "content": "4 degrees"}, {"role": "user", "content": "So?"}]
    yield [{"role": "tool", "content": [{"type": "text", "text": "first"}, IMAGES[2]], "name": "camera"}]
    yield [ask, {"role": "assistant", "content": None, "tool_calls": [call, call]},
           {"role": "tool", "content": "a"}, {"role": "tool", "content": "b"}]


def render(template, messages, options):
    # Processors make a list of a content that is null before they render (ProcessorMixin.apply_chat_template of 5.24).
    messages = [{**message, "content": [] if message["content"] is None else message["content"]} for message in messages]
    rendered, _ = render_jinja_template([messages], chat_template=template, **options)
    return rendered[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--also", action="append", default=[], type=Path)
    also = [path.read_bytes().decode() for path in parser.parse_args().also]
    template = (ROOT / "models/qwen-tokenizer/chat_template.jinja").read_bytes().decode()
    rng = random.Random(42)
    goldens = []
    for messages in itertools.chain(conversations(rng), tool_conversations()):
        options = {"add_generation_prompt": rng.random() < 0.7, "add_vision_id": rng.random() < 0.5}
        text = render(template, messages, options)
        for other in also:
            assert render(other, messages, options) == text, (messages, options)
        goldens.append({"messages": messages, **options, "text": text})
    out = ROOT / "tests/data/chat_template/goldens.json.xz"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(lzma.compress(json.dumps(goldens).encode(), preset=9))
    print(f"{out.relative_to(ROOT)}: {len(goldens)} conversations, {out.stat().st_size} bytes "
          f"(transformers {transformers.__version__})")


if __name__ == "__main__":
    main()
