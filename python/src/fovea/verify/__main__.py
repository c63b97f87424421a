"""python -m fovea.verify MODEL [--images a.png ...]"""

import argparse
import json
from pathlib import Path

from .._command import check_model, end_with, write
from ..errors import Error


def main(words=None):
    parser = argparse.ArgumentParser(prog="python -m fovea.verify", description="Runs a checkpoint in the installed transformers and in fovea "
                                     "and compares ids, positions, pixels, embeddings, logits and greedy tokens.")
    parser.add_argument("model", help="folder of a Qwen2.5-VL checkpoint")
    parser.add_argument("--images", nargs="*", default=[], metavar="FILE")
    parser.add_argument("--prompt")
    parser.add_argument("--messages", type=Path, metavar="FILE.json", help="a message list in place of images and prompt; paths are relative to here")
    parser.add_argument("--fovea-model", metavar="DIR", help="another folder for fovea, say a conversion of the first")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--attn", default="sdpa", choices=["eager", "sdpa"], help="of both programs (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=16, metavar="N")
    parser.add_argument("--torchvision", action="store_true", help="resize pictures by AutoProcessor and torchvision, not by Pillow")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(words)
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise Error("not_found", f"verify needs torch and transformers: {error}", 'pip install "fovea-vl[probe]"') from None
    from . import verify
    check_model(arguments.model)
    messages = json.loads(arguments.messages.read_text()) if arguments.messages else None
    found = verify(arguments.model, arguments.images, arguments.prompt, messages, fovea_model=arguments.fovea_model, dtype=arguments.dtype,
                   attention=arguments.attn, max_new_tokens=arguments.max_new_tokens, torchvision=arguments.torchvision)
    if arguments.json:
        write(arguments.json, json.dumps(found.json, indent=1) + "\n")
    print(found)
    return 0 if found.equal else 1


if __name__ == "__main__":
    end_with(main)
