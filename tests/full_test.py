#!/usr/bin/env python3
"""tools/full.py without what takes long: which programs a part has, how a table is written and read, the commands."""
import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import full


class Parts(unittest.TestCase):
    def test_every_program_is_in_one_sanitizer_part(self):
        programs = [p for n in range(1, full.SANITIZER_PARTS + 1) for p in full.programs_of(n)]
        self.assertEqual(sorted(programs), full.test_programs())
        self.assertEqual(len(set(programs)), len(programs))
        self.assertIn("checkpoint_test", programs)  # beside its sources
        self.assertIn("golden_test", programs)      # of the whole

    def test_the_tests_of_a_program_are_found_by_its_command(self):
        listing = '''{"tests": [{"name": "a", "command": ["/b/x_test", "--gtest_filter=A.b"]}, {"name": "x_test_NOT_BUILT",
            "command": ["x_test_NOT_BUILT"]}, {"name": "c", "command": ["/usr/bin/mpiexec", "-n", "2", "/b/y_test"]}, {"name": "d"}]}'''
        self.assertEqual(full.numbers_of_tests(listing, ["x_test"]), [1])
        self.assertEqual(full.numbers_of_tests(listing, ["y_test", "z_test"]), [3])

    def test_every_part_says_its_commands(self):
        for name in full.parts():
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                self.assertTrue(full.run_part(name, dry=True))
            self.assertGreater(len(said.getvalue().splitlines()), 3, name)


    def test_goldens_are_verified_with_the_transformers_that_wrote_them(self):
        for name, folders in (("peers-goldens-4", ["golden"]), ("peers-goldens-5", ["golden", "golden5"])):
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                full.run_part(name, dry=True)
            for folder in folders:
                self.assertIn(f"--verify tests/{folder}\n", said.getvalue(), name)


class Table(unittest.TestCase):
    ROW = {"part": "fuzz", "date": "2026-12-01", "commit": "0123456789", "passed": "3", "failed": "0", "seconds": "7", "notes": "a, b; c"}

    def test_what_is_written_reads_back(self):
        other = self.ROW | {"part": "sanitizers-1", "notes": ""}
        written = full.table_text({"fuzz": self.ROW, "sanitizers-1": other})
        self.assertEqual(full.rows(written), {"fuzz": self.ROW, "sanitizers-1": other})
        self.assertLess(written.index("sanitizers-1"), written.index("| fuzz"))  # in the order of the parts

    def test_a_part_runs_again_unless_it_passed_on_this_code(self):
        head = full.git("rev-parse", "HEAD").stdout.strip()
        if not head:
            self.skipTest("no repository here")
        self.assertEqual(full.state(self.ROW | {"commit": head}), "good")
        self.assertEqual(full.state(None), "never ran")
        self.assertEqual(full.state(self.ROW | {"commit": head, "failed": "1"}), "failed")
        self.assertEqual(full.state(self.ROW | {"commit": head, "passed": "0"}), "failed")
        self.assertEqual(full.state(self.ROW | {"commit": head + "+"}), "the code has changed")
        self.assertEqual(full.state(self.ROW | {"commit": "no-such-commit"}), "the code has changed")


class Commands(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(setattr, full, "BUILD", full.BUILD)
        full.BUILD = pathlib.Path(folder.name)

    def test_tests_are_counted(self):
        run = full.Run("part", dry=False)
        run.tests(["sh", "-c", "echo '98% tests passed, 2 tests failed out of 100'; exit 8"])
        run.tests(["echo", "100% tests passed out of 7"])
        run.tests(["echo", "100% tests passed, 0 tests failed out of 3"])
        self.assertEqual((run.passed, run.failed), (108, 2))
        with self.assertRaises(full.Stopped):
            run.tests(["echo", "No tests were found!!!"])

    def test_a_command_that_fails_or_takes_too_long_stops_the_part(self):
        run = full.Run("part", dry=False)
        with self.assertRaisesRegex(full.Stopped, "build failed: false"):
            run.command(["false"], "build")
        run.ends = 0
        with self.assertRaisesRegex(full.Stopped, "build: not finished"):
            run.command(["sleep", "60"], "build")


if __name__ == "__main__":
    unittest.main()
