"""Questions: fovea's suites (docs/guide/audit.md), lists of records, prompts, or inputs that the caller made; and the inputs
that a processor makes of them."""

import base64
import io
import json
import os
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import Error
from .scoring import check_expected, rule_named

LONGEST_LINE = 64 << 20


@dataclass
class Question:
    id: str
    messages: list = None    # or
    prompt: str = None       # or
    inputs: dict = None
    answers: list = field(default_factory=list)
    match: str = "normalized"
    tags: list = field(default_factory=list)  # (name, value)
    folder: Path = Path(".")
    file: str = ""
    line: int = 0


@dataclass
class Suite:
    source: str
    lines: int = 0
    items: list = field(default_factory=list)
    problems: list = field(default_factory=list)

    def skip(self, file, line, id, error):
        self.problems.append({"file": file, "line": line, "id": id or None, "message": error.message, "remedy": error.remedy})


def _answers(record, rule):
    found = record.get("answer")
    answers = found if isinstance(found, list) else [found]
    if not answers or not all(isinstance(one, str) for one in answers):
        raise Error("invalid_argument", "answer is no string and no list of strings",
                    'write "answer": "7", or a list of strings each of which is right')
    for one in answers:
        check_expected(one, rule)
    return answers


def _tags(record):
    tags = record.get("tags") or {}
    text = lambda value: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if isinstance(tags, dict):
        return [(name, text(tags[name])) for name in sorted(tags)]
    if isinstance(tags, list):
        return [(text(tag), "") for tag in tags]
    raise Error("invalid_argument", f"tags is a {type(tags).__name__}", "write an object or a list")


def question_of(record, folder, needs_answer=True):
    """A record of a suite."""
    if not isinstance(record, dict):
        raise Error("invalid_argument", f"the record is a {type(record).__name__}, not an object",
                    'write {"id": ..., "messages": [...], "answer": ...}')
    if not isinstance(record.get("id"), (str, int)) or record["id"] in ("", True, False):
        raise Error("invalid_argument", 'the record has no string "id"', "give every record an id of its own")
    question = Question(str(record["id"]), match=rule_named(record.get("match")), tags=_tags(record), folder=Path(folder))
    if needs_answer or record.get("answer") is not None:
        question.answers = _answers(record, question.match)
    if "inputs" in record:
        question.inputs = dict(record["inputs"])
    elif isinstance(record.get("prompt"), str):
        question.prompt = record["prompt"]
    elif isinstance(record.get("messages"), list) and record["messages"]:
        question.messages = record["messages"]
        for _, source in media_of(question.messages):
            path = local_path(source, question.folder)
            if path is not None and not path.exists():
                raise Error("not_found", f"cannot find {path}", "check the name; relative paths start at the folder of the suite")
    else:
        raise Error("invalid_argument", 'the record has no "messages"', 'write "messages": [{"role": "user", "content": [...]}]')
    return question


def _files(path):
    if not path.is_dir():
        return [path]
    if (path / "suite.jsonl").exists():
        return [path / "suite.jsonl"]
    files = sorted(path.glob("*.jsonl")) or sorted(path.glob("*/suite.jsonl"))
    if not files:
        raise Error("not_found", f"{path} holds no *.jsonl file and no suite",
                    "give the JSON Lines file of the suite, or the folder that `fovea suite make` wrote")
    return files


def _read_line(line, folder, known):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Error("invalid_argument", f"the line is not valid JSON: {error}", "write one JSON object a line") from None
    question = question_of(record, folder)
    if question.id in known:
        raise Error("invalid_argument", f'id "{question.id}" is there already', "give every record an id of its own")
    return question


def read_suite(path):
    """A JSON Lines file, or a folder as `fovea audit --suite` takes it. A broken line becomes a problem."""
    suite, known = Suite(str(path)), set()
    for file in _files(Path(path)):
        try:
            lines = file.open("rb")
        except OSError as error:
            raise Error("not_found", f"cannot open {file}: {error.strerror}", "check the path of the suite") from None
        with lines:
            for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE), b""), 1):
                if not line.strip():
                    continue
                suite.lines += 1
                try:
                    question = _read_line(line.decode("utf-8", "replace").lstrip("\ufeff"), file.parent, known)
                    question.file, question.line = str(file), number
                    known.add(question.id)
                    suite.items.append(question)
                except Error as error:
                    suite.skip(str(file), number, None, error)
    if not suite.items:
        first = suite.problems[0] if suite.problems else {"message": "it holds no record", "remedy": "write one JSON object a line"}
        raise Error("invalid_argument", f"no question of {path} can be used; {first['message']}", first["remedy"])
    return suite


def suite_of(questions):
    """What fovea.probe takes as questions: a path, or a list of records, prompts, message lists or inputs."""
    if isinstance(questions, (str, os.PathLike)):
        return read_suite(questions)
    suite = Suite("questions of the caller")
    for number, one in enumerate(questions):
        if isinstance(one, str):
            one = {"prompt": one}
        elif isinstance(one, (list, tuple)):
            one = {"messages": list(one)}
        elif hasattr(one, "keys") and "input_ids" in one:
            one = {"inputs": one}
        suite.lines += 1
        suite.items.append(question_of(dict({"id": f"question {number}"}, **one), ".", needs_answer=False))
    if not suite.items:
        raise Error("invalid_argument", "there is no question", "give at least one")
    return suite


# --- pictures ------------------------------------------------------------------------------------------------------

def media_of(messages):
    """(kind, source) of each picture and video in order of appearance."""
    found = []
    for message in messages:
        for part in message.get("content") if isinstance(message.get("content"), list) else []:
            for kind in ("image", "video"):
                if part.get("type") in (kind, kind + "_url") or (part.get("type") is None and (kind in part or kind + "_url" in part)):
                    source = next((part[name] for name in (kind, kind + "_url", "path", "url") if name in part), None)
                    found.append((kind, source["url"] if isinstance(source, dict) else source))
    return found


def local_path(source, folder):
    if not isinstance(source, (str, os.PathLike)) or str(source).startswith("data:"):
        return None
    if str(source).startswith("file://"):
        return Path(urllib.parse.unquote(str(source)[7:]))
    return folder / source


def open_image(source, folder):
    """A picture as PIL.Image in RGB: a path, a file:// or data: URL, bytes, PIL or numpy. Nothing is fetched."""
    from PIL import Image

    if isinstance(source, Image.Image):
        return source.convert("RGB")
    if str(type(source).__module__).startswith("numpy"):
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise Error("unsupported", f"{source[:200]} is a network address", "download the file and give its path")
    try:
        if isinstance(source, (bytes, bytearray)):
            return Image.open(io.BytesIO(source)).convert("RGB")
        path = local_path(source, folder)
        if path is not None:
            return Image.open(path).convert("RGB")
        return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2], validate=True))).convert("RGB")
    except (OSError, ValueError, AttributeError) as error:
        raise Error("not_found", f"cannot read the picture {str(source)[:200]}: {error}", "give a file that Pillow can open") from None


def _plain(messages):
    """The same messages with each picture as a bare {"type": "image"}: templates need no more."""
    result = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            content = [{"type": "text", "text": part["text"]} if "text" in part else
                       {"type": "video" if part.get("type") in ("video", "video_url") or "video" in part else "image"} for part in content]
        result.append({**message, "content": content})
    return result


# --- inputs --------------------------------------------------------------------------------------------------------

def _template_beside(folder):
    """The chat template of the files that a processor reads and a tokenizer does not; None where there is none."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text()
    if (folder / "chat_template.json").exists():
        return json.loads((folder / "chat_template.json").read_text())["chat_template"]
    return None


class PillowProcessor:
    """Tokenizer and image processor of a Qwen2-VL or Qwen2.5-VL folder with pictures resized by Pillow: where
    torchvision is not installed, which AutoProcessor needs for its videos, and for the very pixels that fovea computes."""

    def __init__(self, folder):
        import transformers
        if transformers.__version__.startswith("4."):
            from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor as Images
        else:
            from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil as Images
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.image_processor = Images.from_pretrained(folder)
        if self.tokenizer.chat_template is None:
            self.tokenizer.chat_template = _template_beside(Path(folder))
        self.image_token_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.apply_chat_template = self.tokenizer.apply_chat_template

    def __call__(self, text, images=None, return_tensors="pt", **_):
        text, inputs = text[0], {}
        if images:
            inputs = dict(self.image_processor(images=images, return_tensors=return_tensors))
            merge = self.image_processor.merge_size
            for grid in inputs["image_grid_thw"].tolist():
                text = text.replace("<|image_pad|>", "<|placeholder|>" * (grid[0] * grid[1] * grid[2] // merge ** 2), 1)
            text = text.replace("<|placeholder|>", "<|image_pad|>")
        inputs |= self.tokenizer(text, return_tensors=return_tensors, add_special_tokens=False)
        if images:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.image_token_id).int()
        return inputs


def load_processor(folder):
    """AutoProcessor; where that is not possible, the tokenizer with Pillow's image processor, or the tokenizer alone."""
    import transformers
    try:
        return transformers.AutoProcessor.from_pretrained(folder)
    except (ImportError, OSError, ValueError) as error:
        try:
            model_type = transformers.AutoConfig.from_pretrained(folder).model_type
        except (OSError, ValueError):
            model_type = ""
        if model_type in ("qwen2_vl", "qwen2_5_vl"):
            return PillowProcessor(folder)
        if isinstance(error, ImportError):
            raise Error("unsupported", f"the processor of {folder} cannot be loaded: {str(error).strip().splitlines()[0]}",
                        "install what it needs") from error
        return transformers.AutoTokenizer.from_pretrained(folder)


def tokenizer_of(processor):
    return getattr(processor, "tokenizer", processor)


def inputs_of(processor, question, parameters):
    """The model's inputs on the CPU: a batch of one. `parameters`: names that the model's forward takes."""
    if question.inputs is not None:
        inputs = question.inputs
        if inputs["input_ids"].dim() != 2 or inputs["input_ids"].shape[0] != 1:
            raise Error("invalid_argument", f"{question.id}: input_ids has the shape {list(inputs['input_ids'].shape)}",
                        "give each question a batch of one, [1, tokens]")
    elif question.prompt is not None:
        inputs = dict(tokenizer_of(processor)(question.prompt, return_tensors="pt"))
    else:
        inputs = _from_messages(processor, question)
    optional = ("mm_token_type_ids", "token_type_ids")  # a processor writes them for every model
    return {name: value for name, value in inputs.items() if torch.is_tensor(value) and (name in parameters or name not in optional)}


def _from_messages(processor, question):
    media = media_of(question.messages)
    if any(kind == "video" for kind, _ in media):
        if isinstance(processor, PillowProcessor):
            raise Error("unsupported", "videos need transformers' own processor", "install torchvision and a decoder")
        return dict(processor.apply_chat_template(question.messages, tokenize=True, return_dict=True, return_tensors="pt",
                                                  add_generation_prompt=True))
    try:
        text = processor.apply_chat_template(_plain(question.messages), tokenize=False, add_generation_prompt=True)
    except ValueError as error:
        raise Error("unsupported", f"the processor cannot render messages: {str(error).splitlines()[0]}",
                    'give prompts as strings, or records with "prompt"') from None
    images = [open_image(source, question.folder) for _, source in media]
    if not images:
        return dict(tokenizer_of(processor)(text, return_tensors="pt", add_special_tokens=False))
    if not hasattr(processor, "image_processor"):
        raise Error("invalid_argument", f"{question.id} has pictures, but the processor is a tokenizer", "give the model's AutoProcessor")
    return dict(processor(text=[text], images=images, return_tensors="pt"))


def extended(inputs, tokens):
    """The inputs with `tokens` behind: every field that has a value for each token grows with them."""
    if not len(tokens):
        return dict(inputs)
    length, count = inputs["input_ids"].shape[1], len(tokens)
    grown = dict(inputs)
    for name, value in inputs.items():
        if name == "input_ids":
            more = torch.tensor([tokens], dtype=value.dtype, device=value.device)
        elif name == "attention_mask" and value.dim() == 2:
            more = value.new_ones((1, count))
        elif name == "position_ids":
            more = value[..., -1:] + torch.arange(1, count + 1, device=value.device)
        elif value.dim() == 2 and value.shape == (1, length):
            more = value.new_zeros((1, count))
        else:
            continue
        grown[name] = torch.cat([value, more], -1)
    return grown
