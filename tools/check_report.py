#!/usr/bin/env python3
"""Opens an audit's HTML report in Chromium, on a phone, on a screen, in light and dark, and prints it.

  tools/check_report.py                     a fresh audit of models/fovea-demo by build/fovea
  tools/check_report.py --report FILE.html  another one; nothing is run

For development: needs Chromium (apt-get install chromium) and the Python packages playwright, pypdfium2 and Pillow. Fails on
a message in the console, on anything wider than the window, on a label that is too small, too pale, cut off or beneath
another, on a picture that does not load, on a script that is not the page's own and yet runs, and on a copied command that
does not make the same audit again. Leaves screenshots of 390 and 1280 pixels and of the print in --pictures, docs/pictures by
default.
"""
import argparse
import io
import json
import pathlib
import subprocess
import sys
import tempfile

import pypdfium2
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUITES = ["--kind easy", "--kind multi-image", "--kind mixed --tokens 200-900"]
QUESTIONS = 24  # of each kind
WINDOWS = [(390, 844, "light"), (390, 844, "dark"), (1280, 900, "light"), (1280, 900, "dark"), (360, 800, "light")]
PATIENCE = 120_000  # milliseconds: a busy machine draws slowly
SMALLEST, PALEST = 10.5, 4.5  # pixels; contrast of WCAG AA

# What is wrong with the words that can be seen, one sentence each.
LEGIBLE = """([smallest, palest]) => {
  const faults = [];
  const rgb = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255; return v > 0.03928 ? ((v + 0.055) / 1.055) ** 2.4 : v / 12.92; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.5) return c;
    }
    return [255, 255, 255];
  };
  // Headings for those who listen: nobody sees them.
  const hidden = (element) => {
    for (let e = element; e; e = e.parentElement) if (getComputedStyle(e).clipPath !== "none") return true;
    return false;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const words = node.textContent.trim(), element = node.parentElement;
    if (!words || element.closest("script, style, title, svg title") || !element.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect(), style = getComputedStyle(element);
    if (box.width < 2 || hidden(element)) continue;
    const inChart = element instanceof SVGElement;
    const scale = inChart ? element.getScreenCTM().a : 1;
    const size = parseFloat(style.fontSize) * scale;
    if (size < smallest) faults.push(`"${words.slice(0, 40)}" is ${size.toFixed(1)} pixels high`);
    const ink = light(rgb(inChart ? style.fill : style.color)), page = light(behind(element));
    const contrast = (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05);
    if (contrast < palest) faults.push(`"${words.slice(0, 40)}" has a contrast of ${contrast.toFixed(1)}`);
  }
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  for (const chart of document.querySelectorAll("svg.chart")) {
    const labels = [...chart.querySelectorAll("text")], frame = chart.getBoundingClientRect();
    if (frame.width === 0) continue;
    labels.forEach((label, i) => {
      const box = label.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1) faults.push(`"${label.textContent}" leaves its chart`);
      for (const other of labels.slice(i + 1)) {
        if (over(box, other.getBoundingClientRect())) faults.push(`"${label.textContent}" lies over "${other.textContent}"`);
      }
    });
  }
  for (const cell of document.querySelectorAll("td, th, dd, .value, .badge, .name, figcaption, summary")) {
    if (cell.checkVisibility() && !hidden(cell) && cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).display !== "inline") {
      faults.push(`"${cell.textContent.trim().slice(0, 40)}" is cut off`);
    }
  }
  for (const picture of document.images) {
    if (!picture.complete || picture.naturalWidth === 0) faults.push("a picture did not load");
  }
  return [...new Set(faults)];
}"""


def run(command, folder):
    subprocess.run(command, shell=True, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_audit(fovea, model, folder):
    """Three suites and their audit as a user makes them; its page."""
    (folder / "fovea").symlink_to(fovea)
    (folder / "fovea-demo").symlink_to(model)
    (folder / "questions").mkdir()
    for suite in SUITES:
        run(f"./fovea suite make {suite} --count {QUESTIONS} --seed 2025 --out questions/{suite.split()[1]}", folder)
    run("./fovea audit -m fovea-demo --suite questions --compare eager-bf16,sdpa,flash-bf16,eager-qkv-fp32 --drift --attribute "
        "--attribution-items 6 --search --json audit.json --report audit.html", folder)
    return folder / "audit.html"


def without_times(value):
    """An audit without what no second one can have in common with it."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in ("seconds", "seconds_ratio", "date", "resident")}
    return [without_times(v) for v in value] if isinstance(value, list) else value


class Visit:
    """One window, and what went wrong in it."""

    def __init__(self, browser, page_file, width, height, scheme):
        self.name, self.width, self.faults = f"{width} {scheme}", width, []
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme,
                                           permissions=["clipboard-read", "clipboard-write"])
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.goto(page_file.as_uri())

    def look(self):
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        if wide > self.width:
            self.faults.append(f"the page is {wide} pixels wide")
        self.faults += self.page.evaluate(LEGIBLE, [SMALLEST, PALEST])

    def unfold(self):
        self.page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")

    def sections(self):
        return self.page.evaluate("[...document.querySelectorAll('section')].map(s => s.id + ' ' + Math.round(s.getBoundingClientRect().height)).join(', ')")

    def height(self):
        return self.page.evaluate("document.documentElement.scrollHeight")


def copied(visit):
    """What each button puts into the clipboard."""
    texts = []
    for command in visit.page.locator("pre.command").all():
        command.locator("button").click()
        visit.page.wait_for_function("document.activeElement.textContent === 'Copied'")
        texts.append(visit.page.evaluate("navigator.clipboard.readText()"))
        if texts[-1] != command.locator("code").text_content():
            visit.faults.append(f"copied is {texts[-1]}, shown {command.locator('code').text_content()}")
    return texts


def runs_no_other_script(browser, page_file):
    """Markup that got into the page all the same could not act."""
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(page_file.as_uri())
    page.evaluate("""document.body.insertAdjacentHTML('beforeend',
        '<img src=x onerror="document.title = 1"><svg onload="document.title = 1"></svg>');
        const script = document.createElement('script'); script.textContent = 'document.title = 1'; document.body.append(script);""")
    page.wait_for_timeout(300)
    return [] if page.title() != "1" else ["a script that is not the page's own ran"]


def printed(visit, picture):
    """The print's pages beside each other."""
    document = pypdfium2.PdfDocument(visit.page.pdf(prefer_css_page_size=True, print_background=True))
    pages = [page.render(scale=110 / 72).to_pil() for page in document]
    columns = min(len(pages), 3)
    width, height = pages[0].size
    sheet = Image.new("RGB", (columns * (width + 12) + 12, -(-len(pages) // columns) * (height + 12) + 12), "#888888")
    for i, page in enumerate(pages):
        sheet.paste(page, (12 + i % columns * (width + 12), 12 + i // columns * (height + 12)))
    save(sheet, picture)
    words = "".join(page.get_textpage().get_text_range() for page in document)
    return len(pages), [f"not in print: {heading}" for heading in visit.page.locator("section > h2").all_text_contents()
                        if heading != "Verdict" and heading not in words]


def save(image, path):
    image.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)


def look_everywhere(browser, page_file, pictures):
    faults = runs_no_other_script(browser, page_file)
    for width, height, scheme in WINDOWS:
        visit = Visit(browser, page_file, width, height, scheme)
        visit.look()
        print(f"  {visit.name}: {visit.height()} pixels high; {visit.sections()}")
        if width != 360:
            name = f"report-{width}{'-dark' if scheme == 'dark' else ''}.png"
            save(Image.open(io.BytesIO(visit.page.screenshot(full_page=True))), pictures / name)
        if (width, scheme) == (1280, "light"):
            pages, lost = printed(visit, pictures / "report-print.png")
            print(f"  print: {pages} pages")
            visit.faults += lost
        visit.unfold()
        visit.look()
        faults += [f"{visit.name}: {fault}" for fault in visit.faults]
        visit.context.close()
    return faults


def repeats(browser, page_file):
    """The last command of the page, copied and run beside the audit, makes the audit again."""
    visit = Visit(browser, page_file, 1280, 900, "light")
    texts, audit = copied(visit), page_file.with_name("audit.json")
    before = json.loads(audit.read_text())
    audit.unlink()
    run(texts[-1], page_file.parent)
    same = without_times(json.loads(audit.read_text())) == without_times(before)
    run(f"echo 'What is this?' | {texts[0]}", page_file.parent)
    return visit.faults + ([] if same else ["the copied command makes another audit"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fovea", default=ROOT / "build/fovea", type=pathlib.Path)
    parser.add_argument("--model", default=ROOT / "models/fovea-demo", type=pathlib.Path)
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--pictures", default=ROOT / "docs/pictures", type=pathlib.Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        own = options.report is None
        page_file = make_audit(options.fovea.resolve(), options.model.resolve(), pathlib.Path(folder)) if own else options.report.resolve()
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        faults = look_everywhere(browser, page_file, options.pictures)
        if own:
            faults += repeats(browser, page_file)
    print("\n".join(faults) or "the report holds in every window and in print")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
