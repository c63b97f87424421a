#!/usr/bin/env python3
"""Compares what `fovea plan` predicts with what `fovea run` comes to hold; the rows are kept in docs/measurements/plan.json.

  tools/check_plan.py [--program build/fovea] [--demo models/fovea-demo] [--big DIR] [--only WORD] [--write]

Measured is the maximum resident set that the kernel states for the ended process (wait4, as /usr/bin/time -v shows it):
program, libraries, every page of the mapped weights that was read, and all that was allocated. Every run reads the
pictures from bitmaps made here, generates exactly the planned number of tokens (--ignore-eos) and is planned with the
same flags, images and number of tokens. Predicted less measured must lie between -3 % and +10 % of measured; the exit
code tells. --big is a checkpoint of the 3B shape (fovea synth --config 3b --out DIR); its runs take minutes.
--write puts the rows into docs/measurements/plan.json, in place of earlier ones of the same case, and makes plan.md from it
(tools/measurements.py render).
"""
import argparse
import datetime
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

BELOW, ABOVE = -3.0, 10.0
TEXT = "What is shown here? Answer in one sentence, please."


def bitmap(path, width, height):
    """A 24-bit BMP of a pattern that has edges."""
    stride = (width * 3 + 3) // 4 * 4
    row = bytes((x * 7 + c * 40) % 251 for x in range(width) for c in range(3)).ljust(stride, b"\0")
    header = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + stride * height, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    # Row by row: a process begins with the maximum resident set of the one that started it, this one.
    with path.open("wb") as file:
        file.write(header)
        for _ in range(height):
            file.write(row)


def cases(big):
    """(model, images as (count, width, height), words of text, answer tokens, flags)"""
    found = []
    for attention in ("flash_attention_2", "sdpa", "eager"):
        # In fp16 the demo model's scores overflow in eager: that is what it is for.
        for dtype in ("bf16", "fp32", "fp16")[:2 if attention == "eager" else 3]:
            found.append(("demo", [], 100, 8, ["--attn", attention, "--dtype", dtype]))
            found.append(("demo", [(1, 560, 560)], 20, 8, ["--attn", attention, "--dtype", dtype]))
        found.append(("demo", [(4, 840, 560)], 20, 8, ["--attn", attention]))
        found.append(("demo", [(1, 1120, 840)], 20, 8, ["--attn", attention]))
        found.append(("demo", [], 3000, 8, ["--attn", attention]))
    flash = ["--attn", "flash_attention_2"]
    for chunk in (0, 64, 2048):
        found.append(("demo", [(8, 560, 560)], 400, 8, flash + ["--prefill-chunk", str(chunk)]))
    found.append(("demo", [(20, 560, 560)], 20, 8, flash + ["--max-total-image-tokens", "4000"]))
    found.append(("demo", [(10, 1120, 1120), (10, 84, 84)], 20, 8, flash + ["--max-total-image-tokens", "6000"]))
    found.append(("demo", [(20, 1120, 1120)], 20, 8, flash))
    found.append(("demo", [(2, 3000, 2000)], 20, 8, flash))
    found.append(("demo", [(1, 700, 700)], 20, 2000, flash))
    found.append(("demo", [(1, 700, 700)], 20, 8, flash + ["--guard", "warn"]))
    found.append(("demo", [(1, 700, 700)], 20, 8, flash + ["--threads", "1"]))
    for ram in ("47M", "48M"):  # streamed; the program alone takes 38 MB
        found.append(("demo", [], 100, 8, flash + ["--ram", ram]))
    found.append(("demo", [], 3000, 8, flash + ["--kv-offload"]))
    found.append(("demo", [(8, 560, 560)], 400, 8, ["--attn", "sdpa", "--kv-offload"]))
    for preset in ("balanced", "fast"):
        found.append(("demo", [(4, 840, 560)], 20, 8, ["--preset", preset]))
    if big:
        for preset in ("balanced", "fast"):
            found.append(("3B", [(1, 224, 224)], 20, 2, ["--preset", preset]))
        for dtype in ("bf16", "fp32"):
            for attention in ("flash_attention_2", "eager"):
                found.append(("3B", [(1, 224, 224)], 20, 2, ["--attn", attention, "--dtype", dtype]))
        for ram in ("1500M", "2G", "4G"):
            found.append(("3B", [(2, 560, 560)], 20, 2, flash + ["--ram", ram]))
        found.append(("3B", [], 600, 2, flash + ["--ram", "1500M"]))
        found.append(("3B", [], 600, 2, flash))
        found.append(("3B", [], 1200, 2, flash + ["--kv-offload"]))
        found.append(("3B", [], 1200, 2, flash + ["--kv-offload", "--ram", "2G"]))
        found.append(("3B", [(1, 1120, 840)], 20, 2, flash))
        found.append(("3B", [(1, 560, 560)], 20, 2, ["--attn", "sdpa"]))
    return found


def measure(arguments):
    """The maximum resident set in bytes and the process's JSON."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(arguments, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0)
        err.seek(0)
        if status != 0:
            sys.exit(f"{' '.join(arguments)}\n{err.read().decode()}")
        return usage.ru_maxrss * 1024, json.load(out)


def compare(program, folder, dirs, case):
    model, images, words, answer, flags = case
    files = []
    for count, width, height in images:
        path = folder / f"{width}x{height}.bmp"
        if not path.exists():
            bitmap(path, width, height)
        files += ["--image", str(path)] * count
    text = (TEXT + " ") * (words // 10 + 1)
    measured, ran = measure([program, "run", "-m", dirs[model], "--json", "--greedy", "--ignore-eos", "--max-new-tokens",
                             str(answer), *flags, *files, text])
    shapes = [part for count, width, height in images for part in ("--images", f"{count}@{width}x{height}")]
    planned = json.loads(subprocess.run(
        [program, "plan", "-m", dirs[model], "--json", "--context", str(ran["prompt_tokens"] + answer), "--max-new-tokens",
         str(answer), *flags, *shapes], check=True, capture_output=True, text=True).stdout)
    assert planned["image_tokens"] == sum(image["tokens"] for image in ran["images"]), (planned, ran["images"])
    return {"case": case, "context": planned["context"], "image_tokens": planned["image_tokens"], "planned": planned["peak_bytes"],
            "phase": planned["peak_phase"], "measured": measured, "plan": planned,
            "error": (planned["peak_bytes"] / measured - 1) * 100}


def plain(row):
    """What is kept of a comparison."""
    model, images, _, _, flags = row["case"]
    return {"model": model, "images": ", ".join(f"{c} × {w}x{h}" for c, w, h in images) or "none", "context": row["context"],
            "flags": " ".join(flags), "planned_mb": round(row["planned"] / 1e6, 1), "measured_mb": round(row["measured"] / 1e6, 1),
            "error": round(row["error"], 1), "phase": row["phase"], "date": str(datetime.date.today())}


def line(row):
    found = plain(row)
    return (f"{found['model']:5} {found['images']:30} {found['flags']:60} {found['planned_mb']:9.1f} {found['measured_mb']:9.1f} MB "
            f"{found['error']:+5.1f} %")


def keep(page, rows):
    """Puts the rows into the file; those of cases that were not run stay, with the day of their own."""
    case = lambda row: (row["model"], row["images"], row["context"], row["flags"])
    new = {case(row): row for row in rows}
    old = json.loads(page.read_text())["rows"] if page.exists() else []
    merged = [new.pop(case(row), row) for row in old] + list(new.values())
    page.write_text(json.dumps({"made_by": "tools/check_plan.py --write", "bounds": [BELOW, ABOVE], "rows": merged},
                               indent=1, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--program", default=str(root / "build" / "fovea"))
    parser.add_argument("--demo", default=str(root / "models" / "fovea-demo"))
    parser.add_argument("--big", default="")
    parser.add_argument("--only", default="", help="cases whose description contains this")
    parser.add_argument("--rows", default="", help="keep the rows of these runs in this JSON file, and add to it")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    known = json.loads(Path(args.rows).read_text()) if args.rows and Path(args.rows).exists() else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(args.big):
            old = [row for row in known if row["case"] == json.loads(json.dumps(case))]
            if args.only not in str(case):
                continue
            row = old[0] if old else compare(args.program, Path(folder), {"demo": args.demo, "3B": args.big}, case)
            rows.append(row)
            print(line(row), flush=True)
            if args.rows and not old:
                known.append(row)
                Path(args.rows).write_text(json.dumps(known, indent=1))
    bad = [row for row in rows if not BELOW <= row["error"] <= ABOVE]
    print(f"{len(rows)} combinations, {len(bad)} outside {BELOW:+.0f} % to {ABOVE:+.0f} %; "
          f"lowest {min(row['error'] for row in rows):+.1f} %, highest {max(row['error'] for row in rows):+.1f} %")
    if args.write:
        keep(root / "docs" / "measurements" / "plan.json", [plain(row) for row in rows])
        subprocess.run([str(root / "tools" / "measurements.py"), "render"], check=True)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
