#!/usr/bin/env python3
"""tools/fuzz.py and the seeds without a fuzzer: the ledger reads back, every target has seeds, the seeds are small."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import fuzz


def row(target, seconds, crashes="0"):
    return dict(zip(fuzz.COLUMNS, ["2026-12-01", "0123456789+", target, str(seconds), "1000", "20", "30", "4", crashes]))


class Ledger(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(setattr, fuzz, "LEDGER", fuzz.LEDGER)
        fuzz.LEDGER = pathlib.Path(folder.name) / "measurements" / "fuzzing.md"

    def test_what_is_written_reads_back(self):
        self.assertEqual(fuzz.rows(), [])
        runs = [row("png", 60), row("gif", 10, "1"), row("png", 40)]
        fuzz.write_ledger(runs)
        self.assertEqual(fuzz.rows(), runs)

    def test_runs_of_a_target_add_up(self):
        totals = {line[0]: line[1:] for line in fuzz.totals([row("png", 60), row("gif", 10, "1"), row("png", 40)])}
        self.assertEqual(totals["png"], [100, 2000, 0, "2026-12-01"])
        self.assertEqual(totals["gif"], [10, 1000, 1, "2026-12-01"])
        self.assertEqual(totals["bmp"], [0, 0, 0, "never"])
        self.assertEqual(set(totals), set(fuzz.targets()))


class Seeds(unittest.TestCase):
    def test_every_target_has_seeds_and_all_are_small(self):
        for target in fuzz.targets():
            self.assertTrue(any((fuzz.SEEDS / target).iterdir()), target)
        files = [f for f in fuzz.SEEDS.rglob("*") if f.is_file()]
        self.assertLess(sum(f.stat().st_size for f in files), 300_000)
        self.assertEqual({f.parent.name for f in files}, set(fuzz.targets()))


if __name__ == "__main__":
    unittest.main()
