#!/usr/bin/env python3
"""Writes tests/golden5: checkpoints as people have them today, and what transformers 5 makes of them.

  python tools/make_goldens_5.py --out tests/golden5        # torch, torchvision, transformers 5, Pillow, Jinja2, accelerate
  python tools/make_goldens_5.py --verify tests/golden5     # with transformers 5, or with 4.57 what 4.57 can do

The folders have the form of tests/golden (see its README). Here everything is transformers' own: the processor renders,
tokenizes and cuts the pictures, the model computes the position ids. --verify with 4.57 gives its model the same ids,
positions and pixels, and asserts where 4.57 decides otherwise (a head that is stored beside a tied one).
"""
import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import golden_cases
import make_goldens
from golden_cases import Case, Picture, Text, Video, Vision, sections, token_ids

VERSION, IS_4 = transformers.__version__, transformers.__version__.startswith("4.")
GREEDY_TOKENS = (32, 16)  # with the released positions, with transformers 5's after videos
# What is asked of generate() beside plain greedy decoding; the first of two stop strings is
# taken from the greedy answer.
GENERATIONS = [dict(no_repeat_ngram_size=1), dict(no_repeat_ngram_size=2), dict(no_repeat_ngram_size=3),
               dict(no_repeat_ngram_size=2, repetition_penalty=1.3)]


class Form(Picture):
    """A picture that may be transparent: "LA", "RGBA", "P", "L" or "RGB", stored as `suffix`."""

    def __init__(self, height, width, mode, suffix="png", transparent=True):
        super().__init__(height, width, mode)
        self.suffix, self.transparent = suffix, transparent


def alpha_of(height, width):
    """Opaque, clear and everything between."""
    y, x = np.mgrid[0:height, 0:width]
    return np.clip((x * 7 + y * 5) % 400 - 60, 0, 255).astype(np.uint8)


def write_picture(form, seed, path):
    scene = golden_cases.draw(Picture(form.height, form.width), np.random.default_rng(seed))
    more = {}
    if form.mode in ("LA", "RGBA"):
        scene = scene.convert(form.mode[:-1])
        scene.putalpha(Image.fromarray(alpha_of(form.height, form.width)))
        more = dict(lossless=True, exact=True) if form.suffix == "webp" else {}
    elif form.mode == "P":
        scene = scene.quantize(32, dither=Image.Dither.NONE)
        # A PNG states an opacity for each colour, a GIF one clear colour.
        more = dict(transparency=bytes(range(0, 256, 8)) if form.suffix == "png" else 5)
    else:
        scene = scene.convert(form.mode)
        more = dict(transparency=scene.getpixel((form.width // 2, form.height // 2)))
    scene.save(path, **more)


def cases():
    tied = dict(tied=True)
    small = Vision(1, 16, 36, 2, [1])
    merged, video = Picture.merged, Video.merged
    question = "Compare the pictures and describe the difference between the first and the last image."
    return [
        Case("saved_by_5", "folder written by save_pretrained of transformers 5; transparent pictures: grey with alpha, "
             "palette with opacities (resized), GIF, RGBA, WebP, grey and RGB with one clear colour", "flat", "old",
             Text(2, 1, 32, 2, 52, sections(32), **tied), small,
             [("user", [Form(56, 84, "LA"), Form(90, 150, "P"), Form(56, 56, "P", "gif"), Form(84, 56, "RGBA"),
                        Form(56, 84, "RGBA", "webp"), Form(56, 56, "L"), Form(56, 56, "RGB"), question])], max_pixels=9408),
        Case("yarn", "flat config with rope_scaling of type yarn, factor 4, as the model's README writes it", "flat", "old",
             Text(2, 1, 32, 2, 52, sections(32), **tied), small, [("user", [merged(3, 4), question, merged(2, 2), question])]),
        Case("yarn_in_5", "rope_parameters with every optional field of yarn, correction range not truncated",
             "nested_rope_parameters", "new", Text(1, 1, 64, 2, 52, sections(64), **tied, theta=1e4), small,
             [("user", [question, merged(2, 4), question])]),
        Case("tied_with_other_head", "tie_word_embeddings beside an lm_head.weight of other values, which counts", "nested", "new",
             Text(2, 1, 32, 1, 52, sections(32), **tied), small, [("user", [merged(2, 3), "What is in the picture?"])]),
        Case("head_alone", "tie_word_embeddings and only lm_head.weight stored, which is the embedding too", "nested", "new",
             Text(2, 1, 32, 1, 52, sections(32), **tied), small, [("user", [merged(2, 3), "What is in the picture?"])]),
        Case("text_after_videos", "videos of 12 frames 2x3 (1 s per grid) and 4 frames 3x2 (2 s), text and an image after "
             "them; with and without transformers 5's positions", "nested_rope_parameters", "new",
             Text(2, 1, 32, 2, 52, sections(32), **tied), Vision(1, 16, 36, 2, [1], tokens_per_second=4),
             [("user", [video(12, 2, 3, 2.0), "then", video(4, 3, 2, 1.0), "and", merged(2, 2), "Describe the video."])]),
    ]


YARN = dict(
    yarn=dict(type="yarn", mrope_section=sections(32), factor=4, original_max_position_embeddings=64),
    yarn_in_5=dict(rope_type="yarn", mrope_section=sections(64), rope_theta=1e4, factor=2.5, attention_factor=1.21,
                   beta_fast=8.5, beta_slow=0.75, truncate=False, original_max_position_embeddings=48))


def adapt_config(case, folder):
    """What the cases change in the config.json of their layout."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if case.name == "yarn":
        config["rope_scaling"] = YARN["yarn"]
    elif case.name == "yarn_in_5":
        config["text_config"]["rope_parameters"] = YARN["yarn_in_5"]
    golden_cases.write_json(path, config)


def write_weights(case, folder, seed):
    """As make_goldens does, and a head that differs where the case says so."""
    make_goldens.write_weights(case, folder, seed)
    path = folder / "model.safetensors"
    weights, embedding = load_file(path), "model.language_model.embed_tokens.weight"
    if case.name == "tied_with_other_head":
        g = torch.Generator().manual_seed(seed + 1)
        noise = torch.randn(weights[embedding].shape, generator=g) * 3 * case.text.hidden**-0.5
        weights["lm_head.weight"] = noise.to(weights[embedding].dtype)
    elif case.name == "head_alone":
        weights["lm_head.weight"] = weights.pop(embedding)
    save_file(weights, path, metadata={"format": "pt"})


def write_inputs(case, folder):
    """Pictures and messages.json; videos are lists of frames, whose limits must not enlarge them."""
    folder.mkdir(parents=True)
    messages, count = [], 0
    for role, parts in case.messages:
        content = []
        for part in parts:
            seed = 1000 * case.seed + count
            if isinstance(part, str):
                content.append(dict(type="text", text=part))
                continue
            if isinstance(part, Video):
                names = [f"video{count}_{i}.png" for i in range(part.frames)]
                for name, frame in zip(names, golden_cases.draw_video(part, seed)):
                    frame.save(folder / name, optimize=True)
                content.append(dict(type="video", video=names, fps=part.fps, min_pixels=case.min_pixels))
            else:
                name = f"image{count}.{getattr(part, 'suffix', 'png')}"
                if isinstance(part, Form):
                    write_picture(part, seed, folder / name)
                else:
                    golden_cases.draw(part, np.random.default_rng(seed)).save(folder / name, optimize=True)
                content.append(dict(type="image", image=name))
            count += 1
        messages.append(dict(role=role, content=content))
    golden_cases.write_json(folder / "messages.json", messages)


# --- what transformers 5 makes of a folder ---------------------------------------------------------------------------

class Prepared:
    """The processor's output for a folder's conversation, and the pictures that it had to resize."""

    def __init__(self, folder):
        from transformers import AutoImageProcessor, AutoProcessor
        processor = AutoProcessor.from_pretrained(folder)
        processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")  # resizes as Pillow does
        messages = json.loads((folder / "inputs" / "messages.json").read_text())
        parts = [part for message in messages for part in message["content"]]
        opened = lambda name: Image.open(folder / "inputs" / name)
        images = {part["image"]: opened(part["image"]) for part in parts if part["type"] == "image"}
        videos = [[opened(name).convert("RGB") for name in part["video"]] for part in parts if part["type"] == "video"]
        rates = [part["fps"] for part in parts if part["type"] == "video"]
        self.prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        self.tokenizer = processor.tokenizer
        self.inputs = dict(processor(text=[self.prompt], images=list(images.values()) or None, videos=videos or None,
                                     return_tensors="pt", **video_arguments(videos, rates)))
        self.inputs.pop("video_metadata", None)
        if rates:
            self.inputs["second_per_grid_ts"] = torch.tensor(self.inputs["second_per_grid_ts"])
            assert self.inputs["second_per_grid_ts"].tolist() == [2 / rate for rate in rates]
        self.resized = dict(resized_pictures(processor, images, self.inputs)) if images else {}


def video_arguments(videos, rates):
    if not videos:
        return {}
    described = [dict(total_num_frames=len(v), fps=rate, frames_indices=list(range(len(v)))) for v, rate in zip(videos, rates)]
    limits = dict(shortest_edge=56 * 56, longest_edge=28 * 28 * 768)  # messages.json says min_pixels: nothing is enlarged
    return dict(videos_kwargs=dict(video_metadata=described, do_sample_frames=False, size=limits))


def resized_pictures(processor, images, inputs):
    """What was made of the pictures whose size changed; asserts that these pixels are what the processor returned."""
    from transformers.image_transforms import convert_to_rgb
    for (name, image), (_, h, w) in zip(images.items(), inputs["image_grid_thw"].tolist()):
        if image.size != (14 * w, 14 * h):
            rgb = Image.fromarray(convert_to_rgb(image, return_numpy=True))
            resized = rgb.resize((14 * w, 14 * h), Image.Resampling.BICUBIC)
            again = processor.image_processor(images=[resized], return_tensors="pt")["pixel_values"]
            assert torch.equal(again, processor.image_processor(images=[image], return_tensors="pt")["pixel_values"])
            yield name, resized


def load_model(folder, dtype, attention):
    from transformers import Qwen2_5_VLForConditionalGeneration
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()


def of_dtype(inputs, dtype):
    return {name: value.to(dtype) if name.startswith("pixel") else value for name, value in inputs.items()}


def released_positions(model, inputs):
    """[3, 1, n]: as transformers 5, but what follows a video goes on after its last time, as the model was released."""
    ids, types = inputs["input_ids"], inputs["mm_token_type_ids"][0].tolist()
    theirs = model.model.get_rope_index(**{k: v for k, v in inputs.items() if not k.startswith("pixel")})[0]
    ours, following, at = theirs.clone(), 0, 0
    while at < len(types):
        end = next((i for i in range(at, len(types)) if types[i] != types[at]), len(types))
        ours[:, 0, at:end] += following - theirs[:, 0, at:end].min()
        at, following = end, int(ours[:, 0, at:end].max()) + 1
    assert "video_grid_thw" in inputs or torch.equal(ours, theirs), "only videos are placed differently"
    assert ids.shape[1] == ours.shape[2]
    return ours


def greedy(model, inputs, positions, count):
    """`count` tokens by argmax with the KV cache, EOS ignored; the ids and each step's gap in standard deviations."""
    output = model(**inputs, position_ids=positions, use_cache=True)
    following, tokens, gaps = int(positions.max()) + 1, [], []
    while True:
        logits = output.logits[0, -1].float()
        best = logits.topk(2)
        tokens.append(int(best.indices[0]))
        gaps.append(float((best.values[0] - best.values[1]) / logits.std()))
        if len(tokens) == count:
            return tokens, gaps
        output = model(input_ids=torch.tensor([tokens[-1:]]), position_ids=torch.full((3, 1, 1), following),
                       past_key_values=output.past_key_values, use_cache=True)
        following += 1


def generate(model, inputs, count, tokenizer=None, **more):
    """transformers' own loop, from which greedy() above must not differ, EOS ignored."""
    model.generation_config = transformers.GenerationConfig(do_sample=False, eos_token_id=None, pad_token_id=0)
    out = model.generate(**inputs, max_new_tokens=count, tokenizer=tokenizer, **more)
    return out[0, inputs["input_ids"].shape[1]:].tolist()


def generations(model, prepared, tokens):
    """[{options, tokens, text}] of no_repeat_ngram_size and stop_strings."""
    options = [dict(one) for one in GENERATIONS]
    half = prepared.tokenizer.decode(tokens[:20], skip_special_tokens=False)
    options.append(dict(stop_strings=[half[-3:], "never said"]))
    for one in options:
        found = generate(model, prepared.inputs, 32, prepared.tokenizer, **one)
        yield dict(options=one, tokens=found, text=prepared.tokenizer.decode(found, skip_special_tokens=True))


def features(model, inputs):
    out = {}
    for kind, values, grid in (("image", "pixel_values", "image_grid_thw"), ("video", "pixel_values_videos", "video_grid_thw")):
        if values in inputs:
            result = getattr(model.model, f"get_{kind}_features")(inputs[values].to(model.dtype), inputs[grid])
            out[f"{kind}_embeds"] = torch.cat(tuple(getattr(result, "pooler_output", result)), 0)
    return out


# --- writing and verifying -----------------------------------------------------------------------------------------

def logit_positions(length):
    """The last 12 positions and about 12 spread over the rest."""
    return sorted(set(range(0, length, max(1, length // 12))) | set(range(max(0, length - 12), length)))


def results(folder, prepared, positions):
    """What tests/golden_test.cc compares, of the model with these positions."""
    where = logit_positions(prepared.inputs["input_ids"].shape[1])
    outputs = dict(input_ids=prepared.inputs["input_ids"][0].int(), position_ids=positions[:, 0].int(),
                   logit_positions=torch.tensor(where, dtype=torch.int32))
    outputs |= {name: grid.int() for name, grid in prepared.inputs.items() if name.endswith("thw")}
    for suffix, dtype, attention in (("fp32", torch.float32, "eager"), ("bf16_eager", torch.bfloat16, "eager"),
                                     ("bf16_sdpa", torch.bfloat16, "sdpa")):
        model, inputs = load_model(folder, dtype, attention), of_dtype(prepared.inputs, dtype)
        outputs[f"logits_{suffix}"] = model(**inputs, position_ids=positions).logits[0][where]
        outputs |= {f"{name}_{suffix}": value for name, value in features(model, inputs).items()}
    return outputs


def save(outputs, folder, metadata):
    folder.mkdir(parents=True)
    save_file({name: value.detach().contiguous() for name, value in outputs.items()}, folder / "outputs.safetensors",
              {name: str(value) for name, value in metadata.items()})


def save_again(folder):
    """Replaces a folder's files by what save_pretrained of this release writes of them.

    Without a post-processor in tokenizer.json, as in many folders, it writes one that adds nothing.
    """
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    golden_cases.write_json(folder / "tokenizer.json", tokenizer | dict(post_processor=None))
    with tempfile.TemporaryDirectory() as where:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype="auto")
        AutoProcessor.from_pretrained(folder).save_pretrained(where)
        model.save_pretrained(where)
        for old in folder.iterdir():
            if old.is_file():
                old.unlink()
        for new in pathlib.Path(where).iterdir():
            shutil.copyfile(new, folder / new.name)


def acceptable(tokens, gaps):
    return min(gaps) >= make_goldens.GAP_MIN and len(set(tokens)) >= len(tokens) // 4


def choose_seed(case, folder):
    """The first weights whose greedy continuations are neither nearly tied nor a single repeated token."""
    prepared = Prepared(folder)
    for attempt in range(case.attempt, case.attempt + 400):
        seed = 1000 * case.seed + attempt
        write_weights(case, folder, seed)
        model = load_model(folder, torch.float32, "eager")
        continuations = []
        for positions, count in zip(both_positions(model, prepared.inputs), GREEDY_TOKENS):
            continuations.append(greedy(model, prepared.inputs, positions, count))
            if not acceptable(*continuations[-1]):
                break
        else:
            return seed, continuations
    raise SystemExit(f"{case.name}: no seed gives clear greedy tokens")


def both_positions(model, inputs):
    """The released positions and, where there are videos, transformers 5's."""
    theirs = model.model.get_rope_index(**{k: v for k, v in inputs.items() if not k.startswith("pixel")})[0]
    return [released_positions(model, inputs)] + ([theirs] if "video_grid_thw" in inputs else [])


def write_case(case, out, tokenizer, template):
    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    golden_cases.write_configs(case, folder)
    adapt_config(case, folder)
    golden_cases.write_tokenizer(case, folder, tokenizer, template)
    write_inputs(case, folder / "inputs")
    seed, continuations = choose_seed(case, folder)
    if case.name == "saved_by_5":
        save_again(folder)
    prepared = Prepared(folder)
    model = load_model(folder, torch.float32, "eager")
    metadata = dict(case=case.name, about=case.about, seed=seed, transformers=VERSION, torch=torch.__version__,
                    cpu=torch.backends.cpu.get_cpu_capability(),
                    second_per_grid=json.dumps([float(s) for s in prepared.inputs.get("second_per_grid_ts", [])]))
    for name, positions, (tokens, gaps) in zip(("expected", "expected_5"), both_positions(model, prepared.inputs), continuations):
        outputs = results(folder, prepared, positions) | dict(greedy_tokens=torch.tensor(tokens, dtype=torch.int32))
        more = dict(smallest_greedy_gap=f"{min(gaps):.4f}")
        save(outputs, folder / name, metadata | more)
        text = prepared.tokenizer.decode(tokens, skip_special_tokens=True)
        golden_cases.write_json(folder / name / "text.json", metadata | more | dict(prompt=prepared.prompt, answer=text))
    for name, picture in prepared.resized.items():
        picture.save(folder / "expected" / pathlib.Path(name).with_suffix(".png"), optimize=True)
    # Their own loop: the same tokens as the last continuation, which has transformers 5's own positions.
    assert generate(model, prepared.inputs, len(tokens)) == tokens, case.name
    if case.name == "saved_by_5":
        golden_cases.write_json(folder / "expected" / "generations.json", list(generations(model, prepared, tokens)))
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{case.name}: seed {seed}, {prepared.inputs['input_ids'].shape[1]} ids, {size / 1e3:.0f} KB", flush=True)


def largest_difference(found, golden):
    return max(float((value - golden[name]).norm() / golden[name].norm()) for name, value in found.items())


def verify_with_5(folder):
    """Everything again; the ids, positions and tokens must be equal. Returns the worst relative difference in fp32."""
    prepared, worst = Prepared(folder), 0.0
    model = load_model(folder, torch.float32, "sdpa")
    for name, positions, count in zip(("expected", "expected_5"), both_positions(model, prepared.inputs), GREEDY_TOKENS):
        golden = load_file(folder / name / "outputs.safetensors")
        assert golden["input_ids"].tolist() == prepared.inputs["input_ids"][0].tolist()
        assert torch.equal(golden["position_ids"].long(), positions[:, 0])
        logits = model(**prepared.inputs, position_ids=positions).logits[0][golden["logit_positions"].long()]
        found = dict(logits_fp32=logits) | {f"{n}_fp32": v for n, v in features(model, prepared.inputs).items()}
        worst = max(worst, largest_difference(found, golden))
        assert greedy(model, prepared.inputs, positions, count)[0] == golden["greedy_tokens"].tolist()
    asked = folder / "expected" / "generations.json"
    if asked.exists():
        for one in json.loads(asked.read_text()):
            assert generate(model, prepared.inputs, 32, prepared.tokenizer, **one["options"]) == one["tokens"], one["options"]
    return worst


def verify_with_4(folder):
    """The same numbers in 4.57, whose positions after videos are the released ones where grids last whole seconds."""
    golden, inputs = load_file(folder / "expected" / "outputs.safetensors"), make_goldens.Inputs(folder)
    assert golden["input_ids"].tolist() == inputs.ids
    model = load_model_of_4(folder)
    ids, tensors = torch.tensor([inputs.ids]), inputs.tensors()
    seconds = dict(second_per_grid_ts=torch.tensor(inputs.seconds)) if inputs.seconds else {}
    grids = {name: grid for name, grid in tensors.items() if name.endswith("thw")}
    positions = model.model.get_rope_index(ids, **grids, **seconds)[0]
    assert torch.equal(golden["position_ids"].long(), positions[:, 0])
    logits = model(input_ids=ids, position_ids=positions, **tensors).logits[0][golden["logit_positions"].long()]
    return largest_difference(dict(logits_fp32=logits), golden)


def load_model_of_4(folder):
    """4.57 does not know rope_parameters: it gets the same numbers in its own words."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    fields = json.loads((folder / "config.json").read_text())
    text = fields.get("text_config", fields)
    rope = text.pop("rope_parameters", None)
    if rope:
        text |= dict(rope_theta=rope.pop("rope_theta"), rope_scaling=rope, tie_word_embeddings=fields["tie_word_embeddings"])
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, config=Qwen2_5_VLConfig(**fields), dtype=torch.float32, attn_implementation="eager").eval()


NOT_IN_4 = dict(saved_by_5="4.57 drops the alpha of pictures", head_alone="4.57 draws a missing embedding at random",
                tied_with_other_head="4.57 drops a head that is stored beside a tied embedding")


def verify(folder):
    if not IS_4:
        worst = verify_with_5(folder)
    elif folder.name == "tied_with_other_head":
        assert verify_with_4(folder) > 0.1, NOT_IN_4[folder.name]
        worst = 0.0
    else:
        worst = 0.0 if folder.name in NOT_IN_4 else verify_with_4(folder)
    assert worst < 2e-5, f"{folder.name} differs by {worst:.1e}"
    otherwise = f" (otherwise: {NOT_IN_4[folder.name]})" if IS_4 and folder.name in NOT_IN_4 else ""
    print(f"{folder.name}: transformers {VERSION}, worst relative difference {worst:.1e}{otherwise}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=make_goldens.REPOSITORY / "tests" / "golden5")
    parser.add_argument("--case", action="append", help="only this case (repeatable)")
    parser.add_argument("--verify", type=pathlib.Path, metavar="DIR", help="compare instead of writing")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = golden_cases.trained_tokenizer()
    template = (make_goldens.REPOSITORY / "models" / "qwen-tokenizer" / "chat_template.jinja").read_text()
    for number, case in enumerate(cases()):
        case.seed = number + 501
        if arguments.case and case.name not in arguments.case:
            continue
        if arguments.verify:
            verify(arguments.verify / case.name)
        else:
            write_case(case, arguments.out, tokenizer, template)


if __name__ == "__main__":
    sys.exit(main())
