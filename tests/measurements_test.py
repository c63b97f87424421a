#!/usr/bin/env python3
"""Goal: the pages of docs/measurements that are made from JSON are what their JSON says, and an edit of either is found.
Method: tools/measurements.py renders them and compares; then a figure of a copy is changed."""
import json
import pathlib
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / 'tools'))
import check_plan  # noqa: E402
import measurements  # noqa: E402


class Pages(unittest.TestCase):
    def test_pages_are_what_their_json_says(self):
        measurements.render(check=True)

    def test_an_edited_figure_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            kept, measurements.FOLDER = measurements.FOLDER, pathlib.Path(folder)
            try:
                for name, _ in measurements.PAGES:
                    (measurements.FOLDER / f'{name}.json').write_text((kept / f'{name}.json').read_text())
                measurements.render(check=False)
                measurements.render(check=True)
                page = measurements.FOLDER / 'sizes.md'
                page.write_text(page.read_text().replace('3B | 1 |', '3B | 2 |'))
                with self.assertRaisesRegex(SystemExit, 'sizes.md'):
                    measurements.render(check=True)
            finally:
                measurements.FOLDER = kept

    def test_every_figure_of_a_plan_is_within_its_bounds(self):
        data = json.loads((REPOSITORY / 'docs' / 'measurements' / 'plan.json').read_text())
        self.assertGreaterEqual(len(data['rows']), 50)
        for row in data['rows']:
            self.assertTrue(data['bounds'][0] <= row['error'] <= data['bounds'][1], row)


class Plan(unittest.TestCase):
    ROW = {'case': ('demo', [(1, 560, 560)], 20, 8, ['--attn', 'sdpa']), 'context': 514, 'planned': 110_000_000,
           'measured': 100_000_000, 'error': 10.0, 'phase': 'encoding'}

    def test_a_new_row_takes_the_place_of_the_old_one_and_others_stay(self):
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder) / 'plan.json'
            row = check_plan.plain(self.ROW)
            other = {**row, 'model': '3B', 'date': '2026-01-01'}
            check_plan.keep(page, [{**row, 'measured_mb': 1.0}, other])
            check_plan.keep(page, [row])
            self.assertEqual(json.loads(page.read_text())['rows'], [row, other])
            self.assertEqual((row['planned_mb'], row['measured_mb'], row['flags']), (110.0, 100.0, '--attn sdpa'))


if __name__ == '__main__':
    unittest.main()
