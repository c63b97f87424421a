#!/usr/bin/env python3
"""Runs the fuzz targets of tests/fuzz and keeps the ledger, docs/measurements/fuzzing.md.

  tools/fuzz.py run [--target NAME] [--seconds N]    each target, or one, for N seconds (60); adds to the ledger
  tools/fuzz.py keep [--target NAME]                 short inputs that reach most, from build-fuzz/corpus to tests/fuzz/corpus
  tools/fuzz.py list                                 the targets and for how long each has run in all

`make fuzz TARGET= SECONDS=` builds them before (clang, the preset fuzz). A run goes on from the corpus of the one
before, build-fuzz/corpus/TARGET. An input that ends a target is kept in build-fuzz/crashes/TARGET, and the command that
repeats it is printed. One process at a time, at the lowest priority.
"""
import argparse
import datetime
import hashlib
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-fuzz"
SEEDS = ROOT / "tests" / "fuzz" / "corpus"
LEDGER = ROOT / "docs" / "measurements" / "fuzzing.md"
CODE = ["src", "tests/fuzz", "cmake", "CMakeLists.txt", "CMakePresets.json"]
# An input may take a gigabyte, one allocation half of that, and half a minute, which also on a busy machine is far more
# than any needs; an instrumented program takes several times what fovea itself does.
LIMITS = ["-timeout=30", "-rss_limit_mb=1024", "-malloc_limit_mb=512"]
# What `keep` leaves of a target's corpus: few and short, since every change runs them.
KEPT_BYTES, KEPT_FILES, KEPT_LONGEST = 6000, 12, 1500

COLUMNS = ["date", "commit", "target", "CPU seconds", "executions", "edges", "features", "corpus", "crashes"]
INTRODUCTION = """# Fuzzing

Made by `make fuzz TARGET= SECONDS=` ([tools/fuzz.py](../../tools/fuzz.py)), which adds a line for each run. A target is
one reader of bytes from outside ([tests/fuzz](../../tests/fuzz)), run by libFuzzer under AddressSanitizer and UBSan
(float-cast-overflow included); `fovea::Error` is the only exception it may end in, and an input may take half a minute and a
gigabyte. Edges and features are libFuzzer's counts of what the target's whole corpus reaches, of the code of fovea, not
of the libraries below it; corpus is the number of inputs that reach something of their own. A commit with a `+` had
changes that were not committed yet. Crashes are those found in that run, hangs, leaks and exhausted memory among
them; none may be left unmended.
"""


def targets():
    return sorted(f.stem.removeprefix("target_") for f in (ROOT / "tests" / "fuzz").glob("target_*.cc"))


def commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    changed = git("status", "--porcelain", "--", *CODE, ":!tests/fuzz/corpus")
    return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def rows():
    if not LEDGER.exists():
        return []
    lines = LEDGER.read_text().split("## Runs")[-1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| *\d{4}-", line)]
    return [dict(zip(COLUMNS, row)) for row in cells]


def table(head, body):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in body]) + "\n"


def totals(all_rows):
    for target in targets():
        own = [row for row in all_rows if row["target"] == target]
        yield [target, sum(int(row["CPU seconds"]) for row in own), sum(int(row["executions"]) for row in own),
               sum(int(row["crashes"]) for row in own), own[-1]["date"] if own else "never"]


def write_ledger(all_rows):
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    LEDGER.write_text(INTRODUCTION + "\n## In all\n\n" +
                      table(["target", "CPU seconds", "executions", "crashes found", "last run"], totals(all_rows)) +
                      "\n## Runs\n\n" + table(COLUMNS, [[row[c] for c in COLUMNS] for row in all_rows]))


def program(target):
    path = BUILD / "tests" / "fuzz" / f"fuzz_{target}"
    if not path.exists():
        sys.exit(f"fuzz.py: {path.relative_to(ROOT)} is not built: make fuzz TARGET={target}")
    return path


def dictionary(target):
    """The words of the seeds that are text: names of fields and their values."""
    words = set()
    for seed in (SEEDS / target).glob("*"):
        try:
            words.update(re.findall(r'"([^"\\\n]{2,40})"', seed.read_text()))
        except UnicodeDecodeError:
            continue
    path = BUILD / "dictionaries" / target
    path.parent.mkdir(parents=True, exist_ok=True)
    escaped = ("".join(f"\\x{b:02x}" if b < 32 or b > 126 else chr(b) for b in w.encode()) for w in sorted(words)[:400])
    path.write_text("".join(f'"{word}"\n' for word in escaped))
    return [f"-dict={path}"] if words else []


def fuzzer(target, arguments, environment):
    command = [str(program(target)), *LIMITS, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, errors="replace", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, preexec_fn=lambda: os.nice(19))


def environment(folder):
    return os.environ | {"TMPDIR": folder, "OMP_NUM_THREADS": "1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def scratch():
    return tempfile.TemporaryDirectory(prefix="fovea-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(target, seconds):
    corpus, crashes = BUILD / "corpus" / target, BUILD / "crashes" / target
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    spent = processor_seconds()
    with scratch() as folder:
        done = fuzzer(target, [f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={crashes}/",
                               *dictionary(target), str(corpus), str(SEEDS / target)], environment(folder))
    log = BUILD / "log" / f"fuzz-{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(done.stdout)
    found = sorted(f for f in set(crashes.iterdir()) - before if not f.name.startswith("slow-unit"))
    reached = re.findall(r"cov: (\d+) ft: (\d+)", done.stdout) or [("0", "0")]
    executed = re.findall(r"number_of_executed_units: (\d+)", done.stdout) or re.findall(r"^#(\d+)\s", done.stdout, re.M)
    row = dict(zip(COLUMNS, [f"{datetime.date.today()}", commit(), target, round(processor_seconds() - spent),
                             executed[-1] if executed else 0, *reached[-1], len(list(corpus.iterdir())), len(found)]))
    print("  " + ", ".join(f"{name} {row[name]}" for name in COLUMNS[2:]), flush=True)
    for file in found:
        print(f"    {file.name}: again with\n    UBSAN_OPTIONS=print_stacktrace=1 {program(target).relative_to(ROOT)} {file.relative_to(ROOT)}")
    if done.returncode != 0 and not found:
        print(f"    it ended with {done.returncode} and kept no input: {log.relative_to(ROOT)}")
    return row, done.returncode == 0 and not found


def keep(target):
    """Replaces the inputs "reaches-*" by the shortest few of those that together reach what all short ones do."""
    with scratch() as folder, scratch() as merged:
        fuzzer(target, ["-merge=1", f"-max_len={KEPT_LONGEST}", merged, str(BUILD / "corpus" / target), str(SEEDS / target)],
               environment(folder))
        seeds = {f.read_bytes() for f in (SEEDS / target).iterdir() if not f.name.startswith("reaches-")}
        inputs = sorted((f.read_bytes() for f in pathlib.Path(merged).iterdir()), key=lambda b: (len(b), b))
    for file in (SEEDS / target).glob("reaches-*"):
        file.unlink()
    # Every so many of them, so that long ones are among them, too.
    inputs = [b for b in inputs if b not in seeds]
    kept = 0
    for content in inputs[::max(1, len(inputs) // KEPT_FILES)][:KEPT_FILES]:
        if kept + len(content) > KEPT_BYTES:
            break
        kept += len(content)
        (SEEDS / target / f"reaches-{hashlib.sha1(content).hexdigest()[:10]}").write_bytes(content)
    print(f"  {target}: {kept} bytes kept")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "keep", "list"])
    parser.add_argument("--target", default="")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    if options.target and options.target not in targets():
        sys.exit(f"fuzz.py: there is no target {options.target}; there are: {', '.join(targets())}")
    chosen = [options.target] if options.target else targets()
    if options.command == "list":
        sys.stdout.write(table(["target", "CPU seconds", "executions", "crashes found", "last run"], totals(rows())))
        return
    good = True
    for target in chosen:
        if options.command == "keep":
            keep(target)
            continue
        row, clean = run(target, options.seconds)
        write_ledger(rows() + [row])
        good = good and clean
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
