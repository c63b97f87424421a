"""llama.cpp and ik_llama.cpp, by programs that the user built: llama-bench, llama-mtmd-cli."""

import json
import os
import pty
import re
import statistics
import subprocess
import tempfile
import time

from .fovea import CommandError, run

DECODED = 16   # tokens, as many as fovea bench decodes
MARKER = "<__media__>"


class LlamaBench:
    def __init__(self, program, gguf, threads, repetitions, extra=()):
        self.program, self.gguf, self.threads, self.repetitions, self.extra = program, gguf, threads, repetitions, extra
        # How this version decodes behind a prompt: -gp PROMPT,N (ik_llama.cpp), -d DEPTH (llama.cpp), or not at all.
        usage = run([program, "--help"])
        self.depth = next((flag for flag in ("-gp", "-d") if re.search(rf"^\s+{flag},? ", usage, re.M)), None)

    def text(self, length, settings):
        """prefill.N, and decode.N for 16 tokens behind it."""
        if self.depth == "-gp":
            entries = self.entries("-p", length, "-n", 0, "-gp", f"{length},{DECODED}")
        elif self.depth == "-d":
            entries = self.entries("-p", length, "-n", 0) + self.entries("-p", 0, "-n", DECODED, "-d", length)
        else:
            entries = self.entries("-p", length, "-n", DECODED)
        settings.update(settings_of(entries), gguf=os.path.basename(self.gguf),
                        decode_depth=length if self.depth else "0: this llama-bench knows no other")
        return seconds_of(entries, length)

    def entries(self, *work):
        output = run([self.program, "-m", self.gguf, "-fa", 1, "-t", self.threads, "-r", self.repetitions, "-o",
                      "json", *work, *self.extra])
        return parse_bench(output)


def parse_bench(output):
    """The entries in what `llama-bench -o json` printed, which may say other things before and after."""
    start, end = output.find("[\n"), output.rfind("]")
    try:
        return json.loads(output[start:end + 1])
    except ValueError as error:
        raise CommandError(f"llama-bench printed no JSON list ({error}):\n{output[:500]}") from error


def seconds_of(entries, length):
    """Median seconds of the prompt alone and of the tokens alone; entries with both (-gp) time the tokens."""
    seconds = {}
    for entry in entries:
        work = f"decode.{length}" if entry["n_gen"] > 0 else f"prefill.{length}"
        wanted = DECODED if entry["n_gen"] > 0 else length
        if (entry["n_gen"] or entry["n_prompt"]) != wanted:
            raise CommandError(f"llama-bench timed {entry['n_prompt']} + {entry['n_gen']} tokens, not {wanted}")
        seconds[work] = statistics.median(entry["samples_ns"]) / 1e9
    return seconds


def settings_of(entries):
    names = ("build_commit", "build_number", "model_type", "model_size", "n_threads", "n_batch", "n_ubatch", "type_k",
             "type_v", "flash_attn", "repack")
    return {name: entries[0][name] for name in names if name in entries[0]}


class Mtmd:
    def __init__(self, program, gguf, mmproj, threads, extra=()):
        self.program, self.gguf, self.mmproj = map(os.path.abspath, (program, gguf, mmproj))
        self.threads, self.extra = threads, extra

    def vision(self, images, question, settings):
        flags = [word for image in images for word in ("--image", image)]
        question = MARKER * len(images) + question   # without it the images would come last, as in no other engine
        events = timed_lines([self.program, "-m", self.gguf, "--mmproj", self.mmproj, "-t", self.threads, "-c", 8192,
                              "-n", 1, "--temp", 0, "--no-warmup", *flags, "-p", question, *self.extra])
        seconds, settings["image_tokens"] = parse_mtmd(events, len(images))
        settings.update(gguf=os.path.basename(self.gguf), mmproj=os.path.basename(self.mmproj))
        return seconds


def timed_lines(command):
    """[(seconds, text)] as a program prints it on a terminal, where it does not hold its lines back; last its end."""
    terminal, end = pty.openpty()
    events = []
    with tempfile.TemporaryDirectory() as folder:   # ik_llama.cpp leaves a llama.log where it runs
        process = subprocess.Popen([str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=end,
                                   stderr=end)
        os.close(end)
        while text := read_or_end(terminal):
            plain = re.sub(r"\x1b\[[0-9;]*m", "", text.decode(errors="replace"))   # colours
            events.append((time.monotonic(), plain.replace("\r\n", "\n")))
        os.close(terminal)
        status = process.wait()
    events.append((time.monotonic(), ""))
    if status != 0:
        said = "".join(text for _, text in events).strip().splitlines()[-8:]
        raise CommandError(f"{' '.join(map(str, command))}\nended with status {status}:\n" + "\n".join(said))
    return events


def read_or_end(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:   # the other end is closed
        return b""


def parse_mtmd(events, images):
    """Seconds of `vision`, the sum that llama-mtmd-cli states, and of `first_token`, from the first image to the first
    text behind the last one; and the number of image tokens."""
    text = "".join(piece for _, piece in events)
    # ik_llama.cpp and llama.cpp until 2025, then llama.cpp of 2026, which says the rest with -lv 4 only.
    encoded = [int(ms) for ms in re.findall(r"(?:(?:slice|image) encoded|mtmd batch encoding done) in (\d+) ms", text)]
    batches = [int(n) for n in re.findall(r"decoding image batch \d+/\d+, n_tokens_batch = (\d+)", text)]
    decoded = list(re.finditer(r"image decoded \(batch \d+/\d+\) in \d+ ms\n", text))
    start = re.search(r"encoding (?:image|mtmd batch)", text)
    if len(encoded) != images or not decoded or not start:
        raise CommandError(f"llama-mtmd-cli did not say how it encoded {images} images; it printed:\n{text[-800:]}\n"
                           "remedy: if it is llama.cpp of 2026, give --mtmd-args '-lv 4'")
    token = re.search(r"\S", text[decoded[-1].end():])
    at_token = decoded[-1].end() + token.start() if token else len(text)
    return ({"vision": sum(encoded) / 1000, "first_token": time_of(events, at_token) - time_of(events, start.start())},
            sum(batches))


def time_of(events, position):
    for when, text in events:
        if position < len(text):
            return when
        position -= len(text)
    return events[-1][0]
