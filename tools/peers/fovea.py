"""Our side: `fovea bench` and `fovea run`, and the probe of the machine's limits."""

import json
import subprocess
import tempfile
from pathlib import Path


class CommandError(Exception):
    pass


def run(command, **options):
    """Standard output of a command; CommandError with the end of its messages when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, errors="replace", **options)
    if done.returncode != 0:
        end = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise CommandError(f"{' '.join(map(str, command))}\nended with status {done.returncode}:\n{end}")
    return done.stdout


# How our weights are stored: the runs of `fovea bench` that have them so, and the preset of `fovea run`.
WEIGHTS = {"bf16": ("*.{}.bf16", "exact"), "w8a8": ("*.{}.[wi]*8", "balanced"), "int4": ("*.{}.int4", "fast")}


class Fovea:
    def __init__(self, program, model, threads, repetitions, weights="bf16"):
        self.program, self.model, self.threads, self.repetitions = program, model, threads, repetitions
        self.runs, self.preset = WEIGHTS[weights]

    def bench(self, only, repetitions, model=None):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.json"
            place = ["-m", model] if model else []
            run([self.program, "bench", *place, "--only", only, "--repetitions", repetitions, "--threads",
                 self.threads, "--json", path])
            return json.loads(path.read_text())

    def limits(self):
        return self.bench("rope", 1)["limits"]   # the cheapest part: what takes time are the limits before it

    def seconds(self, only, model=None):
        """Median seconds of the selected parts or runs; how weights are stored, at the end of a name, is left out."""
        results = self.bench(only, self.repetitions, model)["results"]
        return {result["name"].removesuffix("." + result["name"].split(".")[-1]) if model else result["name"]:
                result["median_s"] for result in results}

    def text(self, length):
        """prefill.N and decode.N of the checkpoint; decode for 16 tokens."""
        return self.seconds(self.runs.format(length), self.model)

    def attention(self, length):
        seconds = self.seconds(f"attention.causal.{length}")
        return {f"attention.causal.{length}": seconds[f"attention.causal.{length}"]}

    def answer(self, images, question):
        """One token after images: the JSON of `fovea run`."""
        flags = [word for image in images for word in ("--image", image)]
        return json.loads(run([self.program, "run", "-m", self.model, "--preset", self.preset, *flags, "--threads", self.threads, "--greedy",
                               "--ignore-eos", "--max-new-tokens", 1, "--json", question]))

    def vision(self, images, question, settings):
        """`vision`: the tower over all images. `first_token`: tower and prefill."""
        answer = self.answer(images, question)
        settings["image_tokens"] = sum(image["tokens"] for image in answer["images"])
        settings["prompt_tokens"] = answer["prompt_tokens"]
        timings = answer["timings"]
        return {"vision": timings["vision_s"], "first_token": timings["vision_s"] + timings["prefill_s"]}

    def version(self):
        return run([self.program, "--version"]).strip()
