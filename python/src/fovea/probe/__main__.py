"""python -m fovea.probe MODEL --suite FILE"""

import argparse
import json
import sys
from pathlib import Path

from .._command import check_model, end_with, write
from ..errors import Error


def arguments_of(words):
    parser = argparse.ArgumentParser(prog="python -m fovea.probe", description="Says which attention of a model in transformers is safe, "
                                     "which is not, and why.")
    parser.add_argument("model", help="folder or name, as from_pretrained takes it")
    parser.add_argument("--suite", required=True, help="JSON Lines of questions, or a folder of `fovea suite make`")
    parser.add_argument("--compare", help="names separated by commas; by default eager, sdpa and, where it can run, flash_attention_2")
    parser.add_argument("--reference", default="fp32", choices=["fp32", "fp64", "attention-fp32"])
    parser.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"], help="the dtype that is examined")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="only the first N questions")
    parser.add_argument("--max-new-tokens", type=int, default=32, metavar="N")
    parser.add_argument("--target", type=float, default=0.95, help="share of the reference's answers to keep (default: %(default)s)")
    parser.add_argument("--no-drift", action="store_true", help="no errors layer by layer")
    parser.add_argument("--no-attribute", action="store_true", help="do not ask which node is to blame")
    parser.add_argument("--pillow", action="store_true", help="resize pictures with Pillow, as fovea does (Qwen2-VL and Qwen2.5-VL)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--report", type=Path, metavar="FILE", help="one HTML page")
    return parser.parse_args(words)


def load_model(name, dtype, device):
    import torch
    import transformers
    dtype = dtype if dtype == "auto" else getattr(torch, dtype)
    config = transformers.AutoConfig.from_pretrained(name)
    classes = [transformers.AutoModelForImageTextToText, transformers.AutoModelForCausalLM]
    for auto in classes:
        if type(config) in auto._model_mapping:
            return auto.from_pretrained(name, dtype=dtype).eval().to(device)
    raise Error("unsupported", f"{type(config).__name__} is no model that answers with text", "give a model with a language head")


def main(words=None):
    arguments = arguments_of(words)
    from . import PillowProcessor, load_processor, probe
    show = sys.stderr.isatty()

    def progress(stage, done, total):
        if show:
            print(f"\r{stage} {done}/{total} ", end="" if done < total else "\n", file=sys.stderr, flush=True)

    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise Error("not_found", f"the probe needs torch and transformers: {error}", 'pip install "fovea-vl[probe]"') from None
    check_model(arguments.model)
    processor = PillowProcessor(arguments.model) if arguments.pillow else load_processor(arguments.model)
    model = load_model(arguments.model, arguments.dtype, arguments.device)
    result = probe(model, processor, arguments.suite, arguments.compare and _names(arguments.compare), reference=arguments.reference,
                   drift=not arguments.no_drift, attribute=not arguments.no_attribute, limit=arguments.limit,
                   max_new_tokens=arguments.max_new_tokens, target=arguments.target, progress=progress,
                   note=lambda text: print(text, file=sys.stderr))
    result.json["command"] = [Path(sys.executable).name, "-m", "fovea.probe", *(sys.argv[1:] if words is None else words)]
    if arguments.json:
        write(arguments.json, json.dumps(result.json, indent=1, allow_nan=False) + "\n")
    print(result)
    if arguments.report:
        write(arguments.report, result.html())
    return 0 if result.json["complete"] else 130


def _names(text):
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    end_with(main)
