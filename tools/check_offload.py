#!/usr/bin/env python3
"""Shows that a model larger than memory answers under --ram: same tokens, within the limit, at the disk's speed.

  tools/check_offload.py -m DIR [--ram 2G] [--limit 2.5G] [--tokens 16] [--prompt-tokens 4000]

Each of two requests, one about two pictures and one of --prompt-tokens tokens, runs with all weights in memory and
with --ram. The runs with --ram are confined to --limit bytes: by a memory control group of their own where this process
may make one (root; page cache counts there, too), otherwise by RLIMIT_DATA, which counts what is allocated, and in
either case the maximum resident set that the kernel states is held against it. The disk is read before and after each
of them the same way, in order, past the page cache and without a model. Checked: equal tokens; the limits; decoding at
80 % or more of the disk's rate. Reported: the ratio of the prefills, which the disk allows to be 1.3 or less only where
it reads the weights in the time that the prompt computes.
"""
import argparse
import json
import mmap
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check_plan import bitmap

PIECE = 8 << 20


def size(text):
    for unit, factor in (("G", 10**9), ("M", 10**6)):
        if text.endswith(unit):
            return int(float(text[:-1]) * factor)
    return int(text)


def disk_rate(model, seconds=3.0):
    """Bytes per second of reading the weight files front to back with O_DIRECT."""
    page, read, start = mmap.mmap(-1, PIECE), 0, time.monotonic()
    for path in sorted(Path(model).glob("*.safetensors")):
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            at = 0
            while (got := os.preadv(file, [page], at)) > 0:
                at, read = at + got, read + got
                if got % 4096 or time.monotonic() - start > seconds:
                    break
        finally:
            os.close(file)
        if time.monotonic() - start > seconds:
            break
    return read / (time.monotonic() - start)


class Confinement:
    """A limit on the memory of one child process; `how` says which kind."""

    def __init__(self, limit):
        self.limit, self.group, self.how = limit, None, "RLIMIT_DATA"
        for root, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            group = Path(root) / f"fovea-check-{os.getpid()}"
            try:
                group.mkdir()
                self.group = group
                (group / name).write_text(str(limit))
                self.how = f"control group, {name}"
                return
            except OSError:
                self.close()

    def enter(self):  # in the child
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        else:
            resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))

    def close(self):
        if self.group:
            self.group.rmdir()
        self.group = None


def run(command, enter=None):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, preexec_fn=enter)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0)
        err.seek(0)
        if status != 0:
            sys.exit(f"{' '.join(command)[:500]}\nended with status {status}\n{err.read().decode()[-2000:]}")
        return json.load(out), usage.ru_maxrss * 1024


def check(name, command, args, failures):
    whole, _ = run(command)
    rates = [disk_rate(args.model)]
    confinement = Confinement(size(args.limit))
    try:
        part, peak = run(command + ["--ram", args.ram], confinement.enter)
    finally:
        confinement.close()
    rates.append(disk_rate(args.model))
    disk = statistics.mean(rates)
    weights, times = part["weights"], part["timings"]
    decode = weights["decode_read_bytes"] / times["decode_s"] if times["decode_s"] else 0
    print(f"{name}: {part['prompt_tokens']} tokens, {sum(i['tokens'] for i in part['images'])} of images, "
          f"{part['generated_tokens']} generated; {confinement.how} {args.limit}")
    print(f"  peak {peak / 1e9:.2f} GB of {size(args.ram) / 1e9:.2f} GB; weights: {weights['bytes'] / 1e9:.2f} GB, "
          f"{weights['kept_bytes'] / 1e9:.2f} GB kept, {weights['streamed_bytes_per_token'] / 1e9:.2f} GB read per token")
    print(f"  disk {rates[0] / 1e9:.2f} and {rates[1] / 1e9:.2f} GB/s; decode reads {decode / 1e9:.2f} GB/s: "
          f"{decode / disk:.0%} of it")
    print(f"  prefill {times['prefill_s']:.1f} s, in memory {whole['timings']['prefill_s']:.1f} s: "
          f"{times['prefill_s'] / whole['timings']['prefill_s']:.2f} x")
    for good, what in ((part["token_ids"] == whole["token_ids"], "the same tokens"), (peak <= size(args.ram) * 1.03, "the peak"),
                       (decode >= 0.8 * disk, "80 % of the disk's rate"), (not weights["mapped"], "streamed weights")):
        if not good:
            failures.append(f"{name}: not {what}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--program", default=str(root / "build" / "fovea"))
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--ram", default="2G")
    parser.add_argument("--limit", default="2.5G")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=4000, help="0: without the long prompt")
    args = parser.parse_args()
    command = [args.program, "run", "-m", args.model, "--json", "--greedy", "--ignore-eos", "--max-new-tokens",
               str(args.tokens), "--prompt-lookup-num-tokens", "0"]
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = []
        for width, height in ((560, 560), (840, 420)):
            path = Path(folder) / f"{width}.bmp"
            bitmap(path, width, height)
            pictures += ["--image", str(path)]
        check("two images", command + pictures + ["Compare <image> with <image>."], args, failures)
    if args.prompt_tokens:
        check("long prompt", command + ["one " * (args.prompt_tokens - 20)], args, failures)
    print("\n".join(failures) or "all as it should be")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
