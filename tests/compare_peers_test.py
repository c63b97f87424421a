#!/usr/bin/env python3
"""Goal: tools/compare_peers takes the right figures from its peers, rejects disturbed runs, and computes the ratios
that it prints. Method: its parts on texts as the peers print them, and the whole tool with small programs in the place
of fovea and llama-bench."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / "tools"
sys.path.insert(0, str(TOOLS))
sys.dont_write_bytecode = True
from peers import llama, measurement                                                        # noqa: E402
from peers.fovea import CommandError                                                        # noqa: E402
from peers.measurement import Comparison, Contender, Host, Sample                           # noqa: E402

QUIET = {"bf16_gflops": 460.0, "read_gbps": 30.0}
BUSY = {"bf16_gflops": 400.0, "read_gbps": 30.0}      # 13 % under the best
SLOW_MEMORY = {"bf16_gflops": 460.0, "read_gbps": 20.0}


def host_that_sees(*probes, others=lambda: (0.0, 0.0)):
    following = iter(probes)
    return Host(lambda: next(following), others)


def counting_contender(work="prefill.512", label="fovea"):
    """Takes 1, 2, 3 ... seconds."""
    runs = iter(range(1, 100))
    return Contender(label, lambda: {work: float(next(runs))})


class Rejection(unittest.TestCase):
    def run_of(self, host, work="prefill.512", attempts=3):
        kept = measurement.run_undisturbed(counting_contender(work), host, attempts, lambda text: None)
        return kept[work].seconds[work], host.quiet(kept[work], work)

    def test_quiet_run_counts_at_once(self):
        self.assertEqual(self.run_of(host_that_sees(QUIET, QUIET)), (1, True))

    def test_a_slow_probe_after_the_run_rejects_it(self):
        self.assertEqual(self.run_of(host_that_sees(QUIET, BUSY, QUIET, QUIET)), (3, True))

    def test_a_better_probe_later_shows_that_the_run_before_was_disturbed(self):
        self.assertEqual(self.run_of(host_that_sees(BUSY, QUIET, QUIET)), (2, True))

    def test_a_tenth_is_the_limit(self):
        self.assertTrue(self.run_of(host_that_sees(QUIET, dict(QUIET, bf16_gflops=460 * 0.9001)))[1])
        self.assertFalse(self.run_of(host_that_sees(QUIET, dict(QUIET, bf16_gflops=460 * 0.8999)), attempts=1)[1])

    def test_what_stays_disturbed_counts_and_is_marked(self):
        self.assertEqual(self.run_of(host_that_sees(QUIET, BUSY, BUSY, BUSY)), (3, False))

    def test_slow_memory_rejects_decode_only(self):
        self.assertEqual(self.run_of(host_that_sees(QUIET, SLOW_MEMORY)), (1, True))
        self.assertEqual(self.run_of(host_that_sees(QUIET, SLOW_MEMORY, QUIET, QUIET), "decode.512"), (3, True))

    def test_other_programs_reject_a_run_that_quiet_probes_surround(self):
        busy = iter([(0.0, 0.0), (1e6, 0.0)])
        host = host_that_sees(QUIET, QUIET, others=lambda: next(busy))
        self.assertFalse(self.run_of(host, attempts=1)[1])

    def test_our_own_children_are_not_others(self):
        busy = iter([(0.0, 0.0), (1e6, 1e6)])
        host = host_that_sees(QUIET, QUIET, others=lambda: next(busy))
        self.assertTrue(self.run_of(host, attempts=1)[1])

    def test_the_first_quiet_sample_of_each_work_is_kept(self):
        runs = iter([{"prefill.512": 1.0, "decode.512": 1.0}, {"prefill.512": 2.0, "decode.512": 2.0}])
        host = host_that_sees(QUIET, SLOW_MEMORY, QUIET, QUIET)
        host.best = dict(QUIET)
        kept = measurement.run_undisturbed(Contender("fovea", lambda: next(runs)), host, 2, lambda text: None)
        self.assertEqual(kept["prefill.512"].seconds["prefill.512"], 1)

    def test_processor_use_grows(self):
        busy, children = measurement.processor_use()
        subprocess.run([sys.executable, "-c", "sum(range(3000000))"], check=True)
        busy_after, children_after = measurement.processor_use()
        self.assertGreater(children_after, children)
        self.assertGreaterEqual(busy_after, busy)


def samples_of(work, *seconds, limits=None):
    return [Sample({work: s}, limits or QUIET, limits or QUIET, 0.0) for s in seconds]


class Ratios(unittest.TestCase):
    def setUp(self):
        self.host = host_that_sees(QUIET)
        self.host.probe()

    def test_ours_and_peer_take_turns(self):
        order = []
        contenders = [Contender(label, lambda label=label: order.append(label) or {"prefill.512": 1.0})
                      for label in ("fovea", "a", "b")]
        host = Host(lambda: QUIET, lambda: (0.0, 0.0))
        measurement.measure(Comparison("text.512", contenders), host, 2, 3, lambda text: None)
        self.assertEqual(order, ["fovea", "a", "b"] * 2)

    def test_ratio_of_medians_and_range_of_rounds(self):
        by_label = {"fovea": samples_of("w", 2, 1, 4), "a": samples_of("w", 6, 4, 4)}
        line, = measurement.summary("w", by_label, ["fovea", "a"], self.host)
        self.assertEqual([line[k] for k in ("fovea_s", "peer_s", "ratio", "lowest", "highest", "clean")],
                         [2, 4, 2, 1, 4, True])

    def test_one_disturbed_sample_marks_the_line(self):
        by_label = {"fovea": samples_of("w", 2), "a": samples_of("w", 6, limits=BUSY)}
        line, = measurement.summary("w", by_label, ["fovea", "a"], self.host)
        self.assertFalse(line["clean"])

    def test_derived_attention_is_the_quadratic_part(self):
        time = lambda n: 3e-3 * n + 2e-7 * n * n
        samples = {f"prefill.{n}": {"fovea": samples_of(f"prefill.{n}", time(n))} for n in (512, 2048, 8192)}
        derived = measurement.with_derived_attention(samples)
        for n in (2048, 8192):
            name = f"attention_in_prefill.{n}"
            self.assertAlmostEqual(derived[name]["fovea"][0].seconds[name], 2e-7 * n * n, places=9)

    def test_a_quadratic_part_lost_in_noise_is_left_out(self):
        samples = {f"prefill.{n}": {"fovea": samples_of(f"prefill.{n}", 3e-3 * n)} for n in (512, 2048)}
        samples["prefill.2048"]["fovea"][0].seconds["prefill.2048"] -= 0.01
        self.assertEqual(measurement.with_derived_attention(samples).keys(), {"prefill.512", "prefill.2048"})


def bench_entry(n_prompt, n_gen, *milliseconds):
    return {"build_commit": "abc", "model_type": "qwen2vl 3B Q8_0", "n_threads": 2, "flash_attn": True,
            "n_prompt": n_prompt, "n_gen": n_gen, "samples_ns": [int(ms * 1e6) for ms in milliseconds]}


class LlamaBenchOutput(unittest.TestCase):
    def test_medians_by_work(self):
        entries = [bench_entry(512, 0, 7000, 9000, 8000), bench_entry(0, 16, 3000, 3200, 3100)]
        self.assertEqual(llama.seconds_of(entries, 512), {"prefill.512": 8.0, "decode.512": 3.1})

    def test_tokens_behind_a_prompt_are_decode(self):
        self.assertEqual(llama.seconds_of([bench_entry(512, 16, 3000)], 512), {"decode.512": 3.0})

    def test_other_lengths_are_refused(self):
        with self.assertRaises(CommandError):
            llama.seconds_of([bench_entry(128, 0, 7000)], 512)

    def test_messages_around_the_list_are_skipped(self):
        text = "warning: [x]\n[\n" + json.dumps(bench_entry(512, 0, 1)) + "\n]\n\nllama_print_timings: 3 ms\n"
        self.assertEqual(llama.parse_bench(text)[0]["n_prompt"], 512)

    def test_no_list_is_an_error(self):
        with self.assertRaises(CommandError):
            llama.parse_bench("error: failed to load model")


class MtmdOutput(unittest.TestCase):
    ONE = ("encoding image slice...\nimage slice encoded in {} ms\n"
           "decoding image batch 1/1, n_tokens_batch = 1728\nimage decoded (batch 1/1) in 40000 ms\n")

    def test_two_images(self):
        events = [(10.0, "loading 3 tensors\n"), (20.0, self.ONE.format(30000)), (90.0, self.ONE.format(31000)),
                  (95.5, "\n"), (99.0, "The"), (99.5, "")]
        seconds, tokens = llama.parse_mtmd(events, 2)
        self.assertEqual(seconds, {"vision": 61.0, "first_token": 79.0})
        self.assertEqual(tokens, 3456)

    def test_a_token_without_text_counts_until_the_end(self):
        seconds, _ = llama.parse_mtmd([(20.0, self.ONE.format(30000)), (99.5, "\n"), (100.0, "")], 1)
        self.assertEqual(seconds["first_token"], 80.0)

    def test_a_missing_image_is_an_error(self):
        with self.assertRaises(CommandError):
            llama.parse_mtmd([(20.0, self.ONE.format(30000))], 2)

    def test_images_stand_before_the_question(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "llama-mtmd-cli"
            program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/arguments\n'
                               f"printf '{self.ONE.format(3000) * 2}'\n")
            program.chmod(0o755)
            settings = {}
            seconds = llama.Mtmd(program, "w.gguf", "v.gguf", 2).vision(["a.png", "b.png"], "Why?", settings)
            arguments = (Path(folder) / "arguments").read_text().splitlines()
        self.assertEqual(seconds["vision"], 6.0)
        self.assertEqual(settings["image_tokens"], 3456)
        self.assertEqual(arguments[arguments.index("-p") + 1], "<__media__><__media__>Why?")
        self.assertEqual([arguments[i + 1] for i, word in enumerate(arguments) if word == "--image"],
                         ["a.png", "b.png"])

    def test_lines_come_as_they_are_printed(self):
        events = llama.timed_lines(["sh", "-c", "echo first; sleep 0.3; echo second"])
        text = "".join(piece for _, piece in events)
        gap = llama.time_of(events, text.index("second")) - llama.time_of(events, 0)
        self.assertGreater(gap, 0.2)

    def test_a_failing_program_is_an_error(self):
        with self.assertRaises(CommandError):
            llama.timed_lines(["sh", "-c", "echo no model; exit 3"])


FAKE_FOVEA = """#!/usr/bin/env python3
import json, sys
if sys.argv[1] == "--version": sys.exit(print("1.2"))
option = dict(zip(sys.argv, sys.argv[1:]))
length = option["--only"].removeprefix("*.").removesuffix(".bf16")
results = [] if length == "rope" else [{"name": f"prefill.{length}.bf16", "median_s": int(length) / 512},
                                       {"name": f"decode.{length}.bf16", "median_s": 3.0}]
json.dump({"limits": {"bf16_gflops": 460.0, "read_gbps": 30.0}, "results": results}, open(option["--json"], "w"))
"""
FAKE_BENCH = """#!/usr/bin/env python3
import json, sys
if sys.argv[1] == "--help": sys.exit(print("  -gp <pp,tg>      (default: )"))
option = dict(zip(sys.argv, sys.argv[1:]))
entry = lambda p, n, ms: {"n_prompt": p, "n_gen": n, "samples_ns": [ms * 1000000], "build_commit": "abc"}
print(json.dumps([entry(int(option["-p"]), 0, 3 * int(option["-p"])), entry(int(option["-p"]), 16, 1500)], indent=2))
"""


class WholeTool(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        for name, text in (("fovea", FAKE_FOVEA), ("llama-bench", FAKE_BENCH), ("w.gguf", "")):
            (self.path(name)).write_text(text)
            self.path(name).chmod(0o755)

    def path(self, name):
        return Path(self.folder.name) / name

    def run_tool(self, *arguments):
        return subprocess.run([sys.executable, TOOLS / "compare_peers", "--fovea", self.path("fovea"), *arguments],
                              capture_output=True, text=True)

    def test_two_lengths_against_one_file(self):
        done = self.run_tool("-m", self.folder.name, "--llama-bench", f"peer={self.path('llama-bench')}", "--gguf",
                             f"q8={self.path('w.gguf')}", "--lengths", "512,2048", "--rounds", "2", "--attempts", "1",
                             "--json", self.path("out.json"))
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(self.path("out.json").read_text())
        ratios = {line["work"]: line["ratio"] for line in report["ratios"]}
        self.assertAlmostEqual(ratios["prefill.512"], 1.536)
        self.assertAlmostEqual(ratios["prefill.2048"], 1.536)
        self.assertAlmostEqual(ratios["decode.2048"], 0.5)
        self.assertEqual(report["settings"]["text.512"]["peer q8"]["build_commit"], "abc")
        self.assertIn("| decode.512 | 3 s | peer q8 | 1.5 s | 0.50 |", done.stdout)
        self.assertEqual(len(report["samples"]["decode.512"]["peer q8"]), 2)

    def test_mistakes_are_named(self):
        for arguments, said in (([], "name a peer"),
                                (["--llama-bench", str(self.path("llama-bench"))], "need --gguf"),
                                (["--torch", "/no/such/python"], "/no/such/python is not a program")):
            done = self.run_tool(*arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
