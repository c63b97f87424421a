#!/usr/bin/env python3
"""Real clients against a running server: openai, litellm and instructor, in the versions that
tools/check_clients.sh pins.

    serve_clients.py PROGRAM     starts PROGRAM serve on the small model, asks, ends it

Needs these packages; tools/check_clients.sh installs them. Goal: what people's programs send is understood, and what
they get back is what they take apart. Method: each client's own calls, whole and streamed, with pictures, log
probabilities, several answers, errors, keys."""
import base64
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/fovea-demo"
PICTURE = ROOT / "tests/golden/one_image/inputs/image0.png"
KEY = "sk-test-key"
QUESTION = [{"role": "user", "content": "What shape is it?"}]


class Server:
    def __init__(self, program):
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        (folder / "keys").write_text(KEY + "\n")
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [program, "serve", "-m", str(MODEL), "--port", "0", "--port-file", str(folder / "port"), "--api-key-file",
             str(folder / "keys"), "--kv-cache-memory", "32M"],
            stderr=self.log, stdin=subprocess.DEVNULL, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        self.port = self.wait_until_ready(folder / "port")
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def wait_until_ready(self, port_file):
        for _ in range(1200):
            if self.process.poll() is not None:
                break
            port = port_file.read_text().strip() if port_file.exists() else ""
            if port:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read()
                    return int(port)
                except urllib.error.HTTPError:
                    pass
            time.sleep(0.05)
        self.log.seek(0)
        sys.exit("the server did not start:\n" + self.log.read())

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        assert code == 0, code


server = None


def picture_part():
    data = base64.b64encode(PICTURE.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data, "detail": "auto"}}


class OpenAiClient(unittest.TestCase):
    def setUp(self):
        import openai
        self.openai = openai
        self.client = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)

    def ask(self, **more):
        return self.client.chat.completions.create(
            **{"model": "fovea-demo", "messages": QUESTION, "max_tokens": 16, "temperature": 0, **more})

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["fovea-demo"])
        self.assertEqual(self.client.models.retrieve("fovea-demo").owned_by, "fovea")

    def test_chat_whole_and_streamed(self):
        whole = self.ask()
        self.assertIn(whole.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
        self.assertGreaterEqual(whole.usage.prompt_tokens_details.cached_tokens, 0)
        text, usage, roles, reasons = "", None, [], []
        for chunk in self.ask(stream=True, stream_options={"include_usage": True}):
            if not chunk.choices:
                usage = chunk.usage
                continue
            delta = chunk.choices[0]
            text += delta.delta.content or ""
            roles += [delta.delta.role] if delta.delta.role else []
            reasons += [delta.finish_reason] if delta.finish_reason else []
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(roles, ["assistant"])
        self.assertEqual(reasons, [whole.choices[0].finish_reason])

    def test_the_streaming_helper(self):
        with self.client.chat.completions.stream(model="fovea-demo", messages=QUESTION, max_tokens=16,
                                                 temperature=0) as stream:
            done = stream.get_final_completion()
        self.assertEqual(done.choices[0].message.content, self.ask().choices[0].message.content)

    def test_picture_logprobs_and_several_answers(self):
        content = [picture_part(), {"type": "text", "text": "What shape is in the picture?"}]
        answer = self.ask(messages=[{"role": "user", "content": content}], n=2, logprobs=True, top_logprobs=3, seed=4,
                          max_completion_tokens=16, max_tokens=None, presence_penalty=0.2, frequency_penalty=0.1,
                          logit_bias={"5": -1}, user="somebody", extra_body={"min_p": 0.05, "top_k": 20})
        self.assertEqual(len(answer.choices), 2)
        for choice in answer.choices:
            for token in choice.logprobs.content:
                self.assertLessEqual(token.logprob, 0)
                self.assertEqual(len(token.top_logprobs), 3)
                self.assertEqual(bytes(token.bytes).decode(errors="replace"), token.token)

    def test_completions(self):
        answer = self.client.completions.create(model="fovea-demo", prompt=["one", "two"], max_tokens=4, logprobs=1,
                                                temperature=0)
        self.assertEqual(len(answer.choices), 2)
        text = "".join(chunk.choices[0].text for chunk in self.client.completions.create(
            model="fovea-demo", prompt="one", max_tokens=4, temperature=0, stream=True))
        self.assertEqual(text, answer.choices[0].text)

    def test_errors_are_the_clients_own(self):
        with self.assertRaises(self.openai.BadRequestError) as refused:
            self.ask(temperature=-1)
        self.assertEqual(refused.exception.param, "temperature")
        with self.assertRaises(self.openai.NotFoundError):
            self.ask(model="gpt-4")
        with self.assertRaises(self.openai.AuthenticationError):
            self.openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0).models.list()
        with self.assertRaises(self.openai.BadRequestError) as long:
            self.ask(max_tokens=10_000_000, extra_body={"ignore_eos": True}, messages=QUESTION * 400)
        self.assertIn("tokens", str(long.exception))

    def test_a_stream_may_be_left(self):
        stream = self.ask(stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        self.assertTrue(self.ask().choices)

    def test_request_ids(self):
        raw = self.client.chat.completions.with_raw_response.create(
            model="fovea-demo", messages=QUESTION, max_tokens=2, extra_headers={"x-request-id": "mine"})
        self.assertEqual(raw.headers["x-request-id"], "mine")
        self.assertEqual(raw.parse().id, "chatcmpl-mine")


class LiteLlm(unittest.TestCase):
    def test_chat_whole_and_streamed(self):
        import litellm
        more = dict(model="openai/fovea-demo", api_base=server.url, api_key=KEY, messages=QUESTION, max_tokens=16,
                    temperature=0, num_retries=0)
        whole = litellm.completion(**more)
        text, usage = "", None
        for chunk in litellm.completion(**more, stream=True, stream_options={"include_usage": True}):
            usage = getattr(chunk, "usage", None) or usage
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_errors(self):
        import litellm
        with self.assertRaises(litellm.BadRequestError):
            litellm.completion(model="openai/fovea-demo", api_base=server.url, api_key=KEY, messages=QUESTION,
                               top_p=5, num_retries=0)


class Instructor(unittest.TestCase):
    """The small model writes no JSON by itself, so what is looked at is that the client's request is taken and its
    answer read: it finds text that is no such object, and says so."""

    def test_its_requests_are_taken(self):
        import instructor
        import openai
        import pydantic

        class Shape(pydantic.BaseModel):
            name: str

        client = instructor.from_openai(openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0),
                                        mode=instructor.Mode.MD_JSON)
        with self.assertRaises(Exception) as failed:
            client.chat.completions.create(model="fovea-demo", response_model=Shape, messages=QUESTION, max_tokens=16,
                                           max_retries=0, temperature=0)
        self.assertNotIsInstance(failed.exception, openai.APIError)
        self.assertIn("Shape", str(failed.exception))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    server = Server(sys.argv.pop())
    try:
        tests = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
        result = unittest.TextTestRunner(verbosity=2).run(tests)
    finally:
        server.end()
    sys.exit(0 if result.wasSuccessful() else 1)
