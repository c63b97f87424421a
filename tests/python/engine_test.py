"""Goal: fovea.Engine answers what the program answers, however a picture is handed over; misuse has words and crashes nothing.
Method: the demo model."""

import asyncio
import concurrent.futures
import json
import os
import pickle
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

import fovea
from conftest import DEMO

CODE = "The code of Mara is 7. What is the code of Mara?"
pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture(scope="module")
def engine(compiled):
    with fovea.Engine(DEMO, threads=1) as engine:
        yield engine


def test_the_programs_answer(engine, program, suite):
    picture = str(next((suite / "images").glob("*.png")))
    done = subprocess.run([program, "run", "-m", DEMO, "--json", "--image", picture, "--temperature", "0", "--max-new-tokens", "8", "What colour is picture 1?"],
                          capture_output=True, text=True, check=True)
    theirs, ours = json.loads(done.stdout), engine.generate("What colour is picture 1?", images=[picture], temperature=0, max_new_tokens=8)
    assert (ours.token_ids, ours.text, ours.finish_reason) == (theirs["token_ids"], theirs["text"], theirs["finish_reason"])
    assert ours.prompt_tokens == theirs["prompt_tokens"] and str(ours) == ours.text


def test_every_form_of_a_picture_is_the_same_picture(engine, suite):
    numpy = pytest.importorskip("numpy")
    path = next((suite / "images").glob("*.png"))
    forms = [path, str(path), path.read_bytes(), Image.open(path), numpy.asarray(Image.open(path).convert("RGB")), f"file://{path}"]
    encoded = [engine.encode([form]) for form in forms]
    assert encoded[0].shape[1] == engine.info["hidden_size"] and encoded[0].shape[0] > 1
    assert all((one == encoded[0]).all() for one in encoded[1:])
    part = {"role": "user", "content": [{"type": "image", "image": Image.open(path)}, {"type": "text", "text": "What colour is picture 1?"}]}
    assert engine.generate([part]).token_ids == engine.generate("What colour is picture 1?", images=[path]).token_ids
    for wrong in (numpy.zeros((4, 4)), 7, numpy.zeros((4, 4, 3))):
        with pytest.raises(fovea.Error, match="picture"):
            engine.generate("x", images=[wrong])
    with pytest.raises(fovea.Error):
        engine.generate("x", images=[b"no picture"])


def test_streams_and_chats(engine):
    assert "".join(engine.stream(CODE)) == engine.generate(CODE).text == "7"
    for piece in engine.stream(CODE, ignore_eos=True, max_new_tokens=4000):
        break  # and the request ends
    assert engine.generate(CODE).text == "7"
    chat = engine.chat(max_new_tokens=4)
    assert chat.send(CODE).text == "7"
    assert [m["role"] for m in chat.messages] == ["user", "assistant"]
    chat.send("What is the code of Mara?")
    assert len(chat.messages) == 4


def test_a_batch_gives_what_each_gets_alone(engine, suite):
    pictures = sorted((suite / "images").glob("*.png"))[:2]
    prompts = [CODE, {"prompt": "What colour is picture 1?", "images": pictures[:1]}, {"prompt": "What number is in picture 2?", "images": pictures, "max_new_tokens": 1},
               [{"role": "user", "content": CODE}]]
    found = engine.batch(prompts, max_new_tokens=6)
    alone = [engine.generate(CODE, max_new_tokens=6), engine.generate("What colour is picture 1?", pictures[:1], max_new_tokens=6),
             engine.generate("What number is in picture 2?", pictures, max_new_tokens=1), engine.generate(CODE, max_new_tokens=6)]
    assert [a.token_ids for a in found] == [a.token_ids for a in alone]
    mixed = engine.batch([CODE, CODE + " word" * 600], max_new_tokens=2, kv_cache_tokens=128)
    assert mixed[0].text == "7" and isinstance(mixed[1], fovea.Error) and mixed[1].kind == "exhausted"


def test_asyncio(engine):
    async def both():
        pieces = [piece async for piece in engine.astream(CODE)]
        return await engine.agenerate(CODE), "".join(pieces), await engine.abatch([CODE, CODE])

    answer, text, answers = asyncio.run(both())
    assert answer.text == text == answers[0].text == answers[1].text == "7"

    async def cancelled():
        task = asyncio.ensure_future(engine.agenerate(CODE, ignore_eos=True, max_new_tokens=8000))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert engine.generate(CODE).text == "7"


def test_ctrl_c_ends_a_request(engine):
    before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(CODE, ignore_eos=True, max_new_tokens=30000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert engine.generate(CODE).text == "7"


def test_an_exception_in_a_callback_is_the_callers(engine):
    def broken(_):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        engine.generate(CODE, on_text=broken)
    assert engine.generate(CODE).text == "7"


def test_numbers(engine):
    logits = engine.logits(CODE)
    assert logits.shape == (len(engine.token_ids(CODE)), engine.info["vocab_size"])
    assert int(logits[-1].argmax()) == engine.generate(CODE).token_ids[0]
    plan = engine.plan(CODE, max_new_tokens=100)
    assert plan.context == plan.prompt_tokens + 100 and plan.peak_bytes > plan.parts["kv_cache"]["bytes"] > 0
    with fovea.Engine(DEMO, dtype="float32", attn_implementation="sdpa", threads=1) as other:
        assert other.info["dtype"] == "fp32" and other.info["attn_implementation"] == "sdpa"
        wide = other.logits(CODE)
    assert 0 < abs(wide - logits).max() / abs(wide).max() < 0.05


def test_audit(engine, suite):
    seen = []
    report = engine.audit(suite, compare=["eager-bf16", "sdpa"], limit=2, max_new_tokens=4, attribute=False, drift=False,
                          progress=lambda stage, done, total: seen.append(stage))
    assert report.json["configurations"][1]["name"] == "eager-bf16" and seen[0] == "compare"
    assert "Too few questions" in str(report) and "<html" in report.html() and "srcdoc" in report._repr_html_()


def test_threads_follow_torch(engine):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with fovea.Engine(DEMO) as other:
            assert other.generate(CODE, max_new_tokens=1).token_ids and other.threads == 2
            torch.set_num_threads(1)
            assert other.generate(CODE, max_new_tokens=1).token_ids and other.threads == 1
        with fovea.Engine(DEMO, threads=2) as other:
            assert other.generate(CODE).token_ids == engine.generate(CODE).token_ids
            assert other.threads == 2 and engine.threads == 1  # each its own
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("first, second", [("torch", "fovea.transformers"), ("fovea._fovea", "torch")])
def test_both_orders_of_import(first, second):
    """Each in a process of its own: both libraries compute, on the threads that torch says."""
    program = f"""
import {first}, {second}, fovea, torch, fovea.transformers
torch.set_num_threads(2)
a = torch.randn(300, 300); a @ a
q = torch.randn(1, 4, 64, 16)
ours = fovea.transformers.fovea_attention(None, q, q, q, None, is_causal=True)[0]
theirs = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).transpose(1, 2)
assert (ours - theirs).abs().max() < 1e-5
assert fovea.transformers.threads() == 2
with fovea.Engine({str(DEMO)!r}) as engine:
    assert engine.generate({CODE!r}).text == "7" and engine.threads == 2
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_two_engines_and_the_attention_of_transformers_at_once(engine, compiled):
    """Pools of their own: nobody's number of threads changes under another's computation."""
    import fovea.transformers as plug_in
    q = torch.randn(1, 4, 40, 16)
    with fovea.Engine(DEMO, threads=2) as other, concurrent.futures.ThreadPoolExecutor(4) as pool:
        wanted, alone = plug_in.fovea_attention(None, q, q, q, None)[0], engine.generate(CODE, ignore_eos=True, max_new_tokens=30).token_ids
        asked = [pool.submit(one.generate, CODE, ignore_eos=True, max_new_tokens=30) for one in (engine, other)]

        def attend(threads):
            out = torch.empty(1, 40, 4, 16)
            compiled.attend(q, q, q, out, 16 ** -0.5, True, "flash_attention_2", [], threads)
            return out

        attended = [pool.submit(attend, 1 + i % 2) for i in range(200)]
        assert all(torch.equal(one.result(), wanted) for one in attended)
        assert [one.result().token_ids for one in asked] == [alone, alone]


def test_fork_is_refused_with_words(engine):
    import fovea.transformers as plug_in
    q = torch.randn(1, 4, 40, 16)
    plug_in.fovea_attention(None, q, q, q, None)
    child = os.fork()
    if child == 0:
        code = 0
        for call in (lambda: engine.generate(CODE), lambda: plug_in.fovea_attention(None, q, q, q, None)):
            try:
                call()
                code = 1
            except fovea.Error as error:
                code = code if "fork" in error.message and "spawn" in error.remedy else 2
            except BaseException:
                code = 3
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_process_ends(engine):
    """An engine that the parent opened is destroyed in the child, where its threads are missing."""
    program = f"""
import fovea, os, sys
engine = fovea.Engine({str(DEMO)!r}, threads=2)
engine.generate({CODE!r})
child = os.fork()
if child == 0:
    del engine
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert engine.generate({CODE!r}).text == "7"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_misuse_has_words(engine, compiled, tmp_path):
    with pytest.raises(fovea.Error) as caught:
        fovea.Engine(tmp_path / "nothing")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.kind, again.message, again.remedy, str(again)) == (caught.value.kind, caught.value.message, caught.value.remedy, str(caught.value))
    assert caught.value.kind in ("not_found", "io", "invalid_argument") and caught.value.remedy
    for keywords, word in (({"dtype": "int7"}, "int7"), ({"attn_implementation": "turbo"}, "turbo"), ({"preset": "nothing"}, "nothing"),
                           ({"preset": "eager-bf16", "attn_implementation": "sdpa"}, "contradicts"), ({"precision": "text.nodes=1"}, "nodes")):
        with pytest.raises(fovea.Error, match=word):
            fovea.Engine(DEMO, **keywords)
    with pytest.raises(TypeError, match="max_tokens"):
        engine.generate(CODE, max_tokens=3)
    with pytest.raises(fovea.Error, match="temperature"):
        engine.generate(CODE, temperature="hot")
    with pytest.raises(fovea.Error, match="message list"):
        engine.generate([{"role": "user", "content": CODE}], images=["a.png"])
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(engine)
    closed = fovea.Engine(DEMO, threads=1)
    closed.close()
    with pytest.raises(fovea.Error, match="closed"):
        closed.generate(CODE)
    with pytest.raises(TypeError):
        compiled.Engine()
