"""What the page says of a probe for people: what each configuration is, in one line, and the questions whose answers
differ most, with small pictures. The words and the order are those of src/audit/description.cc and asked_questions.cc."""

import base64
import io

from ..errors import Error
from .nodes import NAMES
from .questions import media_of, open_image, tokenizer_of

MOST_QUESTIONS = MOST_PICTURES = 8
THUMBNAIL_BYTES = 12 << 10  # of the PNG
HEAD, TAIL = 400, 600       # bytes of a long prompt


def _low(dtype):
    return dtype in ("bf16", "fp16")


def _eager(nodes):
    if _low(nodes.scores) and _low(nodes.scaled):
        text = f"attention scores rounded to {nodes.scaled} before softmax"
    elif _low(nodes.scores):
        text = f"the product of q and k rounded to {nodes.scores} before it is scaled"
    elif _low(nodes.scaled):
        text = f"scaled attention scores rounded to {nodes.scaled} before softmax"
    else:
        text = f"attention scores kept in {nodes.scaled}"
    text += ", less their row's maximum" if nodes.score_shift == "row_max" else ""
    text += {"none": "", "mean": ", the mean key subtracted", "block256": ", the mean key of each 256 subtracted"}[nodes.k_centring]
    text += ", infinite ones made 0" if nodes.inf_to_zero else ""
    return text + (f", probabilities rounded to {nodes.probabilities}" if _low(nodes.probabilities) else "")


def _attention(tower, nodes):
    known = ("eager", "sdpa", "flash_attention_2")
    if tower.own is not None and tower.own not in known:
        return f"attention as transformers' {tower.own} computes it"
    if nodes.kind == "eager":
        return _eager(nodes)
    if nodes.kind == "flash_attention_2":
        rounded = f", probabilities rounded to {nodes.probabilities}" if _low(nodes.probabilities) else ""
        return f"attention scores in fp32{rounded} (FlashAttention-2)"
    return "attention in fp64" if nodes.kind == "exact" else "attention in fp32 between its inputs and its output (sdpa)"


def _tower(tower, count):
    lines = [_attention(tower, tower.nodes_at(layer, count)) for layer in range(count)] or [_attention(tower, tower.nodes)]
    usual = max(sorted(set(lines)), key=lines.count)
    others = len(lines) - lines.count(usual)
    return usual + (f" ({others} of {len(lines)} layers otherwise)" if others else "")


def describe(configuration, counts):
    """`counts`: {"text": layers, "vision": blocks}."""
    text, vision = (_tower(configuration.tower(name), counts.get(name, 0)) for name in ("text", "vision"))
    dtype = NAMES.get(configuration.dtype, str(configuration.dtype).removeprefix("torch."))
    line = f"{'all in fp32' if dtype == 'fp32' else dtype}; {text}"
    return line + (f"; vision tower: {vision}" if counts.get("vision") and vision != text else "")


def thumbnail(image):
    """A data: URL of a PNG of at most 128 pixels a side and THUMBNAIL_BYTES, whatever is on it."""
    for side in (128, 112, 96, 80, 64, 56):
        small, png = image.convert("RGB"), io.BytesIO()
        small.thumbnail((side, side))
        small.info.clear()  # a profile or a comment of the original is none of a thumbnail's
        small.save(png, "PNG")
        if len(png.getvalue()) <= THUMBNAIL_BYTES:
            break
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def shown_prompt(question, tokenizer=None):
    """The words of a question with "[picture 1]" where pictures stand; the middle of a long one left out."""
    if question.prompt is not None:
        return _without_middle(question.prompt)
    if question.messages is None:
        return _without_middle(tokenizer.decode(question.inputs["input_ids"][0])) if tokenizer is not None else ""
    lines, pictures = [], 0
    for message in question.messages:
        text, content = "", message.get("content")
        for part in [{"text": content}] if isinstance(content, str) else content or []:
            if "text" in part:
                text += part["text"]
            else:
                pictures += 1
                text += f"[picture {pictures}] "
        lines.append(f"{message.get('role', 'user')}: {text}" if len(question.messages) > 1 else text)
    return _without_middle("\n".join(lines))


def _without_middle(text):
    data = text.encode("utf-8", "replace")
    if len(data) <= HEAD + TAIL:
        return data.decode()
    head, tail = data[:HEAD].decode("utf-8", "ignore"), data[-TAIL:].decode("utf-8", "ignore")
    return f"{head} [... {len(data) - len(head.encode()) - len(tail.encode())} bytes left out ...] {tail}"


def _pictures(question):
    found = []
    for kind, source in media_of(question.messages or []):
        entry = {"width": None, "height": None, "tokens": None, "frames": 1, "thumbnail": None}
        found.append(entry)
        if kind != "image":
            continue
        try:
            image = open_image(source, question.folder)
        except Error:
            return []  # it could be read when it was asked about, and is gone
        entry["width"], entry["height"] = image.size
        if len(found) <= MOST_PICTURES:
            entry["thumbnail"] = thumbnail(image)
    return found


def asked_questions(compared, processor):
    """[{id, prompt, pictures}] of docs/guide/audit.md. compared: the reference and the others, each with its `answered`."""
    by_id = {}
    for c in compared:
        for question, result in c.answered:
            by_id.setdefault(question.id, (question, []))[1].append(result)
    telling = []
    for place, (question, results) in enumerate(by_id.values()):
        wrong = sum(not r.correct for r in results)
        judged = question.answers and 0 < wrong < len(results)
        if judged or any(r.answer != results[0].answer for r in results):
            kl = max((sum(r.kl) / len(r.kl) for r in results if r.kl), default=0)
            telling.append(((not judged, -wrong, -kl, place), question))
    telling = sorted(telling, key=lambda one: one[0])[:MOST_QUESTIONS]
    return [{"id": q.id, "prompt": shown_prompt(q, tokenizer_of(processor)), "pictures": _pictures(q)} for _, q in telling]
