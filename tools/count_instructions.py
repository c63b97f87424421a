#!/usr/bin/env python3
"""Counts the instructions of the hot kernels in a fixed run of the demo model, under valgrind's callgrind.

    tools/count_instructions.py [--program build/fovea] [--demo models/fovea-demo] [--json counts.json]

Times on a shared machine drift by half; counts are the same every time for one compiler, so that a kernel which became
slower by doing more shows at once. Prints a Markdown table; docs/measurements/speed.md keeps the last one. The run is one
thread of the AVX2 form, because valgrind 3.19 knows no AVX-512: about 400 tokens of text, then four tokens decoded, in
bf16 and with --preset balanced. Needs valgrind (apt install valgrind).
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

TEXT = " ".join(f"The code of word{i} is {i * 37 % 1000}." for i in range(32)) + " What is the code of word7?"
# What a line of the report counts, and the functions that do it.
KERNELS = {
    "exact": {"projections, prefill": r"tile_nt<.*InTiles<.*F32Bf16>, 4, 3,|grouped_nt<.*F32Bf16>", "projections, one token": r"few_rows_nt<.*F32Bf16>",
              "attention, P.V": r"tile_nn<", "exponentials": r"exp_sum_of"},
    "balanced": {"8-bit products, prefill": r"Int8Weights::tile<4, 2>", "8-bit products, one token": r"Int8Weights::single|quantized_product<.*Int8Weights",
                 "quantized rows": r"::quantize_row\("},
}


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"count_instructions: {' '.join(command)}\nended with status {done.returncode}:\n{done.stderr[-800:]}")
    return done.stdout


def counts_of(arguments, preset):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind.out")
        run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", arguments.program, "run", "-m", arguments.demo,
             "--preset", preset, "--threads", "1", "--greedy", "--ignore-eos", "--max-new-tokens", "4",
             "--prompt-lookup-num-tokens", "0", TEXT], env=dict(os.environ, FOVEA_ISA="avx2"))
        report = run(["callgrind_annotate", "--auto=no", "--threshold=100", out])
    lines = re.findall(r"^ *([\d,]+) \([^)]*\) +(.*)$", report, re.M)
    return {name: sum(int(count.replace(",", "")) for count, function in lines if re.search(pattern, function))
            for name, pattern in KERNELS[preset].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/fovea")
    parser.add_argument("--demo", default="models/fovea-demo")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    counts = {preset: counts_of(arguments, preset) for preset in KERNELS}
    missing = [name for of in counts.values() for name, count in of.items() if count == 0]
    if missing:
        sys.exit(f"count_instructions: nothing counted for {', '.join(missing)}: has a kernel another name?")
    print("| preset | work | instructions |\n| --- | --- | ---: |")
    for preset, of in counts.items():
        for name, count in of.items():
            print(f"| {preset} | {name} | {count:,} |")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(counts, file, indent=2)


if __name__ == "__main__":
    main()
