#!/usr/bin/env python3
"""Everything that is too long for each change, in parts of at most 80 minutes; the results: docs/measurements/full.md.

  tools/full.py                 runs every part that is missing, failed or older than the code, one after the other
  tools/full.py PART...         runs these
  tools/full.py --list          the parts and their state
  tools/full.py --dry-run PART  the commands of a part

`make full PART=` calls it. Each part has a build folder of its own, build-full/PART, which is kept: a part that was
stopped goes on where it was. The parts of a Debian release run on this machine where it is that release, otherwise in
a root made by debootstrap (as root; FOVEA_ROOTS says where, build-full/roots by default).
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-full"
ROOTS = pathlib.Path(os.environ.get("FOVEA_ROOTS", BUILD / "roots"))
TABLE = ROOT / "docs" / "measurements" / "full.md"
LIMIT_S = 80 * 60
JOBS = os.environ.get("JOBS", str(os.cpu_count() or 1))
# A result is of the code; documents and goldens' descriptions may change without outdating it.
CODE = ["src", "python", "tests", "bench", "cmake", "models", "tools", "CMakeLists.txt", "CMakePresets.json"]
COLUMNS = ["part", "date", "commit", "passed", "failed", "seconds", "notes"]
SANITIZER_PARTS = 6
THREAD_PARTS = 4
FUZZ_SECONDS = 120  # each target
RELEASES = {"12": "bookworm", "13": "trixie"}
COMPILERS = {"12": ["g++-11", "g++-12", "clang"], "13": ["g++-13", "g++-14", "clang"]}
INTRODUCTION = """# What `make full` found

Made by `make full` ([tools/full.py](../../tools/full.py)): what is too long for each change, in parts. A row is a part's
last run. Passed and failed count tests; a part that did not get as far says in the notes where it stopped. `make full`
runs the parts whose row is missing, has failures, or is of a commit since which the code has changed.
"""


class Stopped(Exception):
    """A part cannot go on; the text becomes its note."""


class Run:
    """One part under way: commands with a common deadline and log, tests counted."""

    def __init__(self, part, dry):
        self.part, self.dry, self.passed, self.failed, self.notes = part, dry, 0, 0, []
        self.folder, self.ends = BUILD / part, time.monotonic() + LIMIT_S
        self.log = self.folder / "full.log"
        if not dry:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log.write_text("")

    def command(self, words, step, environment=None, may_fail=False):
        """Its output; raises Stopped when it fails or the time is over."""
        line = shlex.join(str(word) for word in words)
        if self.dry:
            print("  " + line)
            return ""
        start = self.log.stat().st_size
        with self.log.open("a") as log:
            process = subprocess.Popen([str(word) for word in words], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, env=os.environ | (environment or {}), start_new_session=True)
            try:
                status = process.wait(max(1, self.ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise Stopped(f"{step}: not finished after {LIMIT_S // 60} minutes; the same command goes on") from None
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise
        if status != 0 and not may_fail:
            raise Stopped(f"{step} failed: {line}")
        with self.log.open(errors="replace") as log:
            log.seek(start)
            return log.read()

    def tests(self, words, environment=None):
        output = self.command(words, "tests", environment, may_fail=True)
        if self.dry:
            return
        counted = re.findall(r"% tests passed(?:, (\d+) tests? failed)? out of (\d+)", output)
        if not counted:
            raise Stopped("tests: none ran")
        failed, total = int(counted[-1][0] or 0), int(counted[-1][1])
        self.passed += total - failed
        self.failed += failed


# --- compilers of a Debian release ----------------------------------------------------------------------------------

def is_release(release):
    text = pathlib.Path("/etc/os-release").read_text() if os.path.exists("/etc/os-release") else ""
    return "ID=debian\n" in text and f'VERSION_ID="{release}"' in text


# Mounts end with the command: none is left that a careless `rm -r` of the root could follow.
IN_ROOT = """mkdir -p "$1$2" && mount --bind "$2" "$1$2" && mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" &&
root=$1 folder=$2 && shift 2 &&
exec chroot "$root" env -u CMAKE_C_COMPILER_LAUNCHER -u CMAKE_CXX_COMPILER_LAUNCHER -C "$folder" "$@\""""


def entered(run, release):
    """What stands before a command so that it runs in that release: nothing, or a chroot that sees this folder."""
    if is_release(release):
        return []
    root = ROOTS / f"debian-{release}"
    if not run.dry and os.geteuid() != 0:
        raise Stopped(f"only root can make and enter a root of Debian {release}")
    if run.dry or not (root / "var/lib/dpkg/status").exists():
        run.command(["debootstrap", "--variant=minbase", RELEASES[release], root, "http://deb.debian.org/debian"], "debootstrap")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", IN_ROOT, "sh", root, ROOT]


def compiler(run, release, name):
    cc, cxx = ("clang", "clang++") if name == "clang" else (name.replace("g++", "gcc"), name)
    packages = ["clang", "libomp-dev"] if name == "clang" else [name]
    inside = entered(run, release)
    run.command([*inside, "apt-get", "-q", "update"], "package lists")
    run.command([*inside, "tools/install_dependencies.sh"], "dependencies")
    run.command([*inside, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "install", "-y", "--no-install-recommends",
                 *packages, "python3"], "packages")
    run.command([*inside, "cmake", "-S", ".", "-B", run.folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                 f"-DCMAKE_C_COMPILER={cc}", f"-DCMAKE_CXX_COMPILER={cxx}", "-DFOVEA_WARNINGS_AS_ERRORS=ON"], "configure")
    versions = run.command([*inside, "sh", "-c", f"{cxx} --version | head -n 1; mpirun --version | head -n 1"], "versions")
    run.notes.append(", ".join(line.strip() for line in versions.splitlines() if line.strip()))
    run.command([*inside, "cmake", "--build", run.folder, "-j", JOBS], "build")
    run.tests([*inside, "ctest", "--test-dir", run.folder, "--output-on-failure", "-j", JOBS])


# --- sanitizers -----------------------------------------------------------------------------------------------------

def test_programs():
    """Every test program, as cmake/layer.cmake and the CMakeLists.txt of tests name them."""
    layers = {file.parent.name + "_test" for file in (ROOT / "src").glob("*/*_test.cc")}
    whole = {file.stem for file in (ROOT / "tests").glob("*_test.cc")}
    return sorted(layers | whole | {"fuzz_corpus_test"})


def programs_of(number, parts=SANITIZER_PARTS):
    return test_programs()[number - 1::parts]


def numbers_of_tests(listing, programs):
    """Those that run one of the programs, by their places in `ctest --show-only=json-v1`."""
    names = set(programs)
    tests = json.loads(listing)["tests"]
    return [i + 1 for i, test in enumerate(tests) if names & {pathlib.Path(word).name for word in test.get("command", [])}]


def sanitizers(run, number, preset="asan", parts=SANITIZER_PARTS):
    programs = programs_of(number, parts)
    run.notes.append(", ".join(programs))
    run.command(["cmake", "--preset", preset, "-B", run.folder], "configure")
    run.command(["cmake", "--build", run.folder, "-j", JOBS, "--target", *programs], "build")
    listing = run.command(["ctest", "--test-dir", run.folder, "--show-only=json-v1"], "list of tests")
    chosen = run.folder / "tests-of-this-part"
    if not run.dry:
        numbers = numbers_of_tests(listing[listing.index("{"):], programs)
        chosen.write_text("0,0,0," + ",".join(str(n) for n in numbers))
    run.tests(["ctest", "--test-dir", run.folder, "-I", chosen, "--output-on-failure", "-j", JOBS])


# --- fuzzing, goldens -----------------------------------------------------------------------------------------------

def fuzz(run):
    run.notes.append(f"each target for {FUZZ_SECONDS} s; fuzzing.md")
    run.command(["tools/install_dependencies.sh", "--fuzz"], "dependencies")
    run.command(["cmake", "--preset", "fuzz"], "configure")
    run.command(["cmake", "--build", "--preset", "fuzz", "-j", JOBS, "--target", "fuzzers"], "build")
    output = run.command(["tools/fuzz.py", "run", "--seconds", str(FUZZ_SECONDS)], "fuzzing", may_fail=True)
    crashes = [int(n) for n in re.findall(r"^  target .* crashes (\d+)$", output, re.M)]
    run.passed, run.failed = sum(n == 0 for n in crashes), sum(n > 0 for n in crashes)
    if not run.dry and not crashes:
        raise Stopped("fuzzing: no target ran")


def goldens(run, transformers, scripts):
    """Each script computes what is committed again, with these transformers, and compares."""
    python = run.folder / "venv" / "bin" / "python"
    run.command(["python3", "-m", "venv", run.folder / "venv"], "venv")
    run.command([python, "-m", "pip", "install", "--quiet", "torch", "--index-url", "https://download.pytorch.org/whl/cpu"],
                "torch", may_fail=True)  # where only PyPI is reachable, the next line brings a larger torch
    run.command([python, "-m", "pip", "install", "--quiet", f"transformers=={transformers}", "torch", "torchvision",
                 "pillow", "jinja2", "numpy"], "packages")
    versions = run.command([python, "-c", "import torch, transformers, PIL; print(f'transformers {transformers.__version__}, "
                                          "torch {torch.__version__}, Pillow {PIL.__version__}')"], "versions")
    run.notes.append(versions.strip().splitlines()[-1] if versions else "")
    for script in scripts:
        try:
            run.command([python, *script], script[0])
            run.passed += 1
        except Stopped as reason:
            run.failed += 1
            run.notes.append(str(reason))


def python_package(run):
    """tests/python in both lines of transformers."""
    run.command(["cmake", "--preset", "release", "-B", run.folder], "configure")
    run.command(["cmake", "--build", run.folder, "-j", JOBS, "--target", "fovea"], "build")
    for version in ("4.57.6", "5.24.0"):
        output = run.command(["tools/check_python.sh"], f"transformers {version}", {"BUILD": str(run.folder), "TRANSFORMERS": version}, may_fail=True)
        if run.dry:
            continue
        counted = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", output.splitlines()[-1] if output else "")}
        if not counted:
            raise Stopped(f"transformers {version}: no test ran")
        run.passed += counted.get("passed", 0)
        run.failed += counted.get("failed", 0) + counted.get("error", 0)
        run.notes.append(f"transformers {version}")


def parts():
    table = {}
    for release, names in COMPILERS.items():
        for name in names:
            table[f"debian{release}-{name}"] = lambda run, r=release, n=name: compiler(run, r, n)
    for number in range(1, SANITIZER_PARTS + 1):
        table[f"sanitizers-{number}"] = lambda run, n=number: sanitizers(run, n)
    for number in range(1, THREAD_PARTS + 1):
        table[f"threads-{number}"] = lambda run, n=number: sanitizers(run, n, "tsan", THREAD_PARTS)
    table["fuzz"] = fuzz
    table["peers-goldens-4"] = lambda run: goldens(run, "4.57.6", [["tools/make_goldens.py", "--verify", "tests/golden"],
                                                                   ["tools/make_media_goldens.py", "--check", "tests/data/media"]])
    table["peers-goldens-5"] = lambda run: goldens(run, "5.24.0", [["tools/make_goldens.py", "--verify", "tests/golden"],
                                                                   ["tools/make_goldens_5.py", "--verify", "tests/golden5"],
                                                                   ["tools/make_media_goldens.py", "--check", "tests/data/media"]])
    table["python"] = python_package
    return table


# --- the table ------------------------------------------------------------------------------------------------------

def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)


def commit():
    changed = git("status", "--porcelain", "--", *CODE).stdout.strip()
    return git("rev-parse", "--short=10", "HEAD").stdout.strip() + ("+" if changed else "")


def rows(text):
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(COLUMNS, row)) for row in cells[2:]}


def table_text(by_part):
    lines = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join("---" for _ in COLUMNS) + " |"]
    ordered = [name for name in parts() if name in by_part]
    lines += ["| " + " | ".join(str(by_part[name][c]) for c in COLUMNS) + " |" for name in ordered]
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"


def known():
    return rows(TABLE.read_text()) if TABLE.exists() else {}


def state(row):
    """"good", or why the part has to run."""
    if row is None:
        return "never ran"
    if row["failed"] != "0" or row["passed"] == "0":
        return "failed"
    if row["commit"].endswith("+") or git("diff", "--quiet", row["commit"], "HEAD", "--", *CODE).returncode != 0:
        return "the code has changed"
    return "good"


def run_part(name, dry):
    print(f"{name}:", flush=True)
    run, started = Run(name, dry), time.monotonic()
    at = commit()
    try:
        parts()[name](run)
    except Stopped as reason:
        run.failed = max(run.failed, 1)
        run.notes.append(str(reason))
    if dry:
        return True
    notes = "; ".join(run.notes).replace("|", "/").replace(str(ROOT) + "/", "").replace(str(ROOT), ".")
    row = dict(zip(COLUMNS, [name, f"{datetime.datetime.now():%Y-%m-%d}", at, run.passed, run.failed,
                             round(time.monotonic() - started), notes]))
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(table_text(known() | {name: row}))
    print(f"  {run.passed} passed, {run.failed} failed, {row['seconds']} s; {notes}\n  log: {run.log.relative_to(ROOT)}")
    return run.failed == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    for name in options.parts:
        if name not in parts():
            sys.exit(f"full.py: there is no part {name}; there are: {', '.join(parts())}")
    rows_now = known()
    if options.list:
        for name in parts():
            print(f"  {name:22} {state(rows_now.get(name))}")
        return
    chosen = options.parts or [name for name in parts() if state(rows_now.get(name)) != "good"]
    results = [run_part(name, options.dry_run) for name in chosen]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
