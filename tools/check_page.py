#!/usr/bin/env python3
"""Opens the page of `fovea serve` in Chromium and has a conversation there, with mouse, keyboard, desktop and phone.

  tools/check_page.py                  build/fovea on models/fovea-demo
  tools/check_page.py --fovea PROGRAM --model DIR --pictures DIR

For development: needs Chromium (apt-get install chromium) and the Python package playwright (pip install playwright),
which drives it. Fails on a message in the console, on anything wider than the window, and on an answer that is not
what the API gives. Leaves screenshots of 1280 pixels (light) and 390 (dark) in --pictures, docs/pictures by default.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURE = ROOT / "tests/golden/one_image/inputs/image0.png"
QUESTION = "What shape is in the picture?"
WINDOWS = [("desktop", 1280, 800, "light"), ("phone", 390, 844, "dark")]
# The demo's model names no boxes: this is what Qwen2.5-VL writes, in two pieces that cut it in the middle.
BOXES = ['```json\n[{"bbox_2d": [8, 10, 40, 44], "label": "<b>a shape</b>"}', ',\n {"point_2d": [50, 50], "label": "a point"}]\n```']


def stream(pieces):
    events = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


class Server:
    def __init__(self, program, model):
        self.folder = tempfile.TemporaryDirectory()
        port_file = pathlib.Path(self.folder.name) / "port"
        self.process = subprocess.Popen([program, "serve", "-m", model, "--port", "0", "--port-file", port_file],
                                        stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 120
        while not (port_file.exists() and port_file.read_text().strip()):
            if time.monotonic() > ends or self.process.poll() is not None:
                sys.exit("check_page.py: fovea serve did not start")
            time.sleep(0.1)
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        while time.monotonic() < ends:
            try:
                urllib.request.urlopen(self.url + "/health")
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("check_page.py: the model was not loaded in two minutes")

    def ask(self, messages):
        body = json.dumps({"messages": messages, "temperature": 0, "max_tokens": 512}).encode()
        request = urllib.request.Request(self.url + "/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)["choices"][0]["message"]["content"]


class Visit:
    """One window, and what went wrong in it."""

    def __init__(self, browser, server, name, width, height, scheme):
        self.name, self.width = name, width
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = context.new_page()
        self.faults = []
        self.page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.goto(server.url + "/")
        self.page.wait_for_function("document.getElementById('model').textContent !== 'connecting …'")

    def check(self, what, holds):
        if not holds:
            self.faults.append(what)

    def ask(self, question):
        count = self.page.locator(".turn.assistant").count()
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")
        self.page.wait_for_selector(f".turn.assistant:nth-of-type({2 * (count + 1)}):not(.waiting)", timeout=120000)
        return self.page.locator(".turn.assistant .text").last.text_content()

    def narrow(self):
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        self.check(f"the page is {wide} pixels wide in a window of {self.width}", wide <= self.width)


def converse(visit, server, pictures):
    page = visit.page
    page.click("#settings-toggle")
    page.fill("input[name=temperature]", "0")
    page.wait_for_function("document.querySelectorAll('#load dd').length > 0")
    page.wait_for_function("document.querySelectorAll('#machine dd').length > 2")
    visit.narrow()
    page.screenshot(path=pictures / f"page-settings-{visit.width}.png")
    page.click("#settings-toggle")

    page.set_input_files("#files", PICTURE)
    page.wait_for_selector("#attached li")
    answer = visit.ask(QUESTION)
    url = page.locator(".turn.user img").first.get_attribute("src")
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    visit.check("the page's answer is not the API's", answer == server.ask([{"role": "user", "content": content}]))
    caption = page.locator(".turn.user figcaption").first.text_content()
    visit.check(f"the caption lacks the picture's geometry: {caption}", " tokens" in caption and "seen as" in caption)
    visit.ask("And what colour?")
    visit.narrow()
    page.screenshot(path=pictures / f"page-conversation-{visit.width}.png")

    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=stream(BOXES)))
    text = visit.ask("Where is it? Answer with boxes.")
    visit.check("markup of an answer became markup of the page", "<b>a shape</b>" in text and page.locator(".turn b").count() == 0)
    visit.check("no box was drawn", page.locator(".turn svg rect").count() == 1 and page.locator(".turn svg circle").count() == 1)
    visit.narrow()
    page.screenshot(path=pictures / f"page-boxes-{visit.width}.png")
    page.unroute("**/v1/chat/completions")


def keyboard_alone(visit):
    """Everything that can be done is reached by the tab key, and Escape stops an answer."""
    page = visit.page
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    visit.check(f"not reached by keyboard: {reached}", {"new", "settings-toggle", "attach", "question", "send"} <= reached)
    page.fill("#question", "Write as much as you can.")
    page.press("#question", "Enter")
    page.keyboard.press("Escape")
    page.wait_for_selector("#send:not([hidden])", state="visible", timeout=60000)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fovea", default=ROOT / "build/fovea", type=pathlib.Path)
    parser.add_argument("--model", default=ROOT / "models/fovea-demo", type=pathlib.Path)
    parser.add_argument("--pictures", default=ROOT / "docs/pictures", type=pathlib.Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    server = Server(options.fovea, options.model)
    faults = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
            for name, width, height, scheme in WINDOWS:
                visit = Visit(browser, server, name, width, height, scheme)
                converse(visit, server, options.pictures)
                keyboard_alone(visit)
                faults += [f"{name}: {fault}" for fault in visit.faults]
    finally:
        server.process.terminate()
        server.process.wait()
    print("\n".join(faults) or "the page holds in both windows")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
