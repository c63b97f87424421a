#!/usr/bin/env python3
"""Goal: the scripts of docs/guide/cookbook give what the cookbook says. Method: each runs on the demo model in a folder of
its own, and the form of what it wrote is checked; what the model says there means nothing. cookbook_test.py PROGRAM"""
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = REPOSITORY / 'docs' / 'guide' / 'cookbook'
DEMO = REPOSITORY / 'models' / 'fovea-demo'
PROGRAM = ''


class Cookbook(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='fovea-cookbook-'))
        shutil.copy(REPOSITORY / 'demo' / 'card3.png', self.folder / 'page.png')
        # Another size than a multiple of 28, so that pixels of the file and of the resized picture differ.
        shutil.copy(REPOSITORY / 'tests' / 'data' / 'media' / 'jpeg_444.jpg', self.folder / 'photo.jpg')
        self.environment = {**os.environ, 'PATH': f'{pathlib.Path(PROGRAM).parent}:{os.environ["PATH"]}', 'FOVEA_MODEL': str(DEMO),
                            'XDG_CACHE_HOME': str(self.folder / 'cache'), 'OMP_NUM_THREADS': '1'}

    def tearDown(self):
        shutil.rmtree(self.folder)

    def script(self, name, *arguments, code=0, **variables):
        done = subprocess.run([str(SCRIPTS / name), *map(str, arguments)], cwd=self.folder, env={**self.environment, **variables},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def fovea(self, *arguments):
        subprocess.run([PROGRAM, *map(str, arguments)], cwd=self.folder, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def test_ocr_to_json(self):
        self.assertEqual(self.script('ocr_to_json.sh', 'page.png'), 'page.json\n')
        page = json.loads((self.folder / 'page.json').read_text())
        self.assertEqual(list(page), ['title', 'date', 'total', 'lines'])
        self.assertIsInstance(page['title'], str)
        self.assertIsInstance(page['lines'], list)
        self.assertFalse((self.folder / 'page.json.part').exists())

    def test_ocr_that_is_cut_leaves_no_json(self):
        self.script('ocr_to_json.sh', 'page.png', code=1, TOKENS='5')
        self.assertFalse((self.folder / 'page.json').exists())

    def test_boxes(self):
        printed = [json.loads(line) for line in self.script('draw_boxes.py', 'photo.jpg', 'boxes.svg', 'the card').splitlines()]
        svg = xml.etree.ElementTree.parse(self.folder / 'boxes.svg').getroot()
        space = '{http://www.w3.org/2000/svg}'
        width, height = int(svg.get('width')), int(svg.get('height'))
        boxes = svg.findall(f'{space}rect')
        self.assertEqual(len(boxes), len(printed))
        self.assertGreater(len(boxes), 0)
        for box, entry in zip(boxes, printed):
            x, y, wide, high = (int(box.get(name)) for name in ('x', 'y', 'width', 'height'))
            self.assertEqual(entry['box'], [x, y, x + wide, y + high])
            self.assertTrue(0 <= x <= x + wide <= width and 0 <= y <= y + high <= height, entry)
        self.assertTrue(svg.find(f'{space}image').get('href').startswith('data:image/jpeg;base64,'))

    def test_boxes_are_in_pixels_of_the_file(self):
        sys.path.insert(0, str(SCRIPTS))
        sys.dont_write_bytecode = True
        import draw_boxes
        image = {'original': {'width': 100, 'height': 300}, 'resized': {'width': 112, 'height': 308}}
        self.assertEqual(draw_boxes.in_the_file([112, 0, 56, 154], image), [50, 0, 100, 150])
        self.assertEqual(draw_boxes.in_the_file([0, 0, 9999, 9999], image), [0, 0, 100, 300])

    def test_video_questions(self):
        video = REPOSITORY / 'tests' / 'data' / 'media' / 'video_short.mp4'
        answers = self.script('video_questions.sh', video, 'What colour is it?', 'And the shape?').splitlines()
        self.assertEqual(len(answers), 2)
        self.assertTrue(all(answers))

    def test_folder_of_scans(self):
        scans = self.folder / 'scans'
        scans.mkdir()
        for name in ('1.png', '2.png'):
            shutil.copy(self.folder / 'page.png', scans / name)
        (scans / '3.png').write_bytes(b'no picture')
        (scans / 'notes.txt').write_text('no scan')
        self.assertIn('3 scans, 1 with a problem', self.script('folder_of_scans.py', 'scans', 'scans.csv', code=1))
        with open(self.folder / 'scans.csv', encoding='utf-8', newline='') as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row['scan'] for row in rows], ['1.png', '2.png', '3.png'])
        self.assertEqual({**rows[0], 'scan': ''}, {**rows[1], 'scan': ''})
        self.assertGreaterEqual(float(rows[0]['total']), 0)
        self.assertEqual([bool(row['problem']) for row in rows], [False, False, True])
        # Again, with the third one mended: what was answered is kept, what failed is tried again.
        shutil.copy(self.folder / 'page.png', scans / '3.png')
        self.assertIn('3 scans, 0 with a problem', self.script('folder_of_scans.py', 'scans', 'scans.csv'))

    def test_a_fine_tune_audited(self):
        self.fovea('suite', 'make', '--kind', 'easy', '--count', 3, '--seed', 1, '--out', 'questions')
        self.fovea('quantize', '-m', DEMO, '--preset', 'fast', '--out', 'tuned')
        printed = self.script('audit_finetune.py', DEMO, 'tuned', 'questions').splitlines()
        self.assertRegex(printed[0], r'^3 questions, base right \d, fine-tune right \d$')
        self.assertTrue(any(line.startswith('lost: ') for line in printed))
        self.assertTrue(any(line.startswith('won: ') for line in printed))
        self.assertIn('<html', (self.folder / 'audit.html').read_text()[:300])
        self.assertTrue(json.loads((self.folder / 'audit.json').read_text())['complete'])

    def test_choosing(self):
        lines = self.script('choose.py', '14G').splitlines()
        self.assertEqual(lines[0].split()[:3], ['size', 'prefer', 'weights'])
        rows = [line.split() for line in lines[1:] if line[:2] in ('3b', '7b')]
        self.assertEqual([row[0] for row in rows], ['3b'] * 3 + ['7b'] * 3)
        self.assertEqual([row[1] for row in rows], ['accuracy', 'latency', 'throughput'] * 2)
        for row in rows:
            self.assertLessEqual(float(row[row.index('GB') - 1]), 14)
        self.assertIn('nothing fits', self.script('choose.py', '100M'))

    def test_wrong_use_is_told(self):
        for name in ('ocr_to_json.sh', 'draw_boxes.py', 'video_questions.sh', 'folder_of_scans.py', 'audit_finetune.py', 'choose.py'):
            done = subprocess.run([str(SCRIPTS / name)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertNotEqual(done.returncode, 0, name)
            self.assertIn('usage: ', done.stderr, name)


if __name__ == '__main__':
    PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
