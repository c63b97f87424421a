#!/usr/bin/env python3
"""Writes tests/golden: tiny random Qwen2.5-VL checkpoints and what transformers computes from them.

  python tools/make_goldens.py --out tests/golden        # needs torch, transformers 4.57, Pillow, tokenizers, Jinja2
  python tools/make_goldens.py --verify tests/golden     # with any transformers from 4.57 on, 5.x included
  python tools/make_goldens.py --dump CASE FILE --out tests/golden   # every intermediate activation of a case, fp32

Position ids are this script's own (position_ids below) and are handed to the model, because the releases disagree:
 - 4.57.6 casts second_per_grid to int64 before the product (0.5 s -> 0: all frames get the same time; 0.4 -> 0); its
   images and whole-second videos are right;
 - 5.23.0 multiplies as floats (right for 0.5 and 0.4), but lets the text after a video resume at
   start + max(height, width), ignoring its duration; its images are right.
check_rope_index asserts each of these statements with the release that runs. The rule kept here is the one released with
the model (transformers 4.49): float product, text resumes at the maximum + 1.
"""
import argparse
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import golden_cases
from golden_cases import ADDED_TOKENS, VOCAB_SIZE, token_ids

GREEDY_TOKENS = 64
GAP_MIN = 0.02  # smallest accepted top-1 to top-2 distance of the greedy steps, in standard deviations of the logits
DISTINCT_MIN = 12  # fewest different tokens among the greedy ones
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
VERSION = transformers.__version__


# --- weights -------------------------------------------------------------------------------------------------------

def canonical_weights(case, seed):
    """Random weights by their new-era names, scaled so that every block contributes as much as the embedding."""
    g = torch.Generator().manual_seed(seed)
    weights = {}

    def normal(name, *shape, std):
        weights[name] = torch.randn(*shape, generator=g) * std

    def linear(name, rows, cols, gain=1.0, bias=0.0):
        normal(name + ".weight", rows, cols, std=gain * cols**-0.5)
        if bias:
            normal(name + ".bias", rows, std=bias)

    def norm(name, size):
        weights[name + ".weight"] = 1 + 0.25 * torch.randn(size, generator=g)

    def mlp(name, hidden, intermediate, bias):
        linear(name + ".gate_proj", intermediate, hidden, 1.5, bias)
        linear(name + ".up_proj", intermediate, hidden, 1.0, bias)
        linear(name + ".down_proj", hidden, intermediate, 1.0, bias)

    vision, text = case.vision, case.text
    size = vision.hidden
    normal("model.visual.patch_embed.proj.weight", size, 3, 2, 14, 14, std=0.03)
    for i in range(vision.depth):
        block = f"model.visual.blocks.{i}"
        norm(block + ".norm1", size)
        norm(block + ".norm2", size)
        linear(block + ".attn.qkv", 3 * size, size, 1.3, 0.3)
        linear(block + ".attn.proj", size, size, 1.0, 0.1)
        mlp(block + ".mlp", size, vision.intermediate, 0.1)
    norm("model.visual.merger.ln_q", size)
    linear("model.visual.merger.mlp.0", 4 * size, 4 * size, 1.5, 0.1)
    linear("model.visual.merger.mlp.2", text.hidden, 4 * size, 0.6, 0.05)

    normal("model.language_model.embed_tokens.weight", VOCAB_SIZE, text.hidden, std=2 * text.hidden**-0.5)
    for i in range(text.layers):
        layer = f"model.language_model.layers.{i}"
        norm(layer + ".input_layernorm", text.hidden)
        norm(layer + ".post_attention_layernorm", text.hidden)
        linear(layer + ".self_attn.q_proj", text.heads * text.head_dim, text.hidden, 1.3, 0.5)
        linear(layer + ".self_attn.k_proj", text.kv_heads * text.head_dim, text.hidden, 1.3, 1.0)
        linear(layer + ".self_attn.v_proj", text.kv_heads * text.head_dim, text.hidden, 1.3, 0.2)
        linear(layer + ".self_attn.o_proj", text.hidden, text.heads * text.head_dim, 1.0)
        if text.key_bias_norm:
            set_aligned_biases(weights, layer, text, text.key_bias_norm[i], g)
        mlp(layer + ".mlp", text.hidden, text.intermediate, 0.0)
    norm("model.language_model.norm", text.hidden)
    if not text.tied:
        normal("lm_head.weight", VOCAB_SIZE, text.hidden, std=3 * text.hidden**-0.5)
    return {name: tensor.to(getattr(torch, case.storage)) for name, tensor in weights.items()}


def set_aligned_biases(weights, layer, text, key_norm, g):
    """K biases of a given norm in the slowest rotary pairs, Q biases along them: large raw scores common to all keys."""
    half = text.head_dim // 2
    direction = torch.zeros(text.head_dim)
    slow = torch.arange(half - 4, half)
    direction[slow], direction[slow + half] = torch.randn(4, generator=g), torch.randn(4, generator=g)
    direction /= direction.norm()
    weights[layer + ".self_attn.k_proj.bias"] += (key_norm * direction).repeat(text.kv_heads)
    weights[layer + ".self_attn.q_proj.bias"] += (16 * direction).repeat(text.heads)


def old_name(name):
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def write_weights(case, folder, seed):
    weights = canonical_weights(case, seed)
    if case.names == "old":
        weights = {old_name(name): tensor for name, tensor in weights.items()}
    for stale in folder.glob("*.safetensors*"):
        stale.unlink()
    if case.shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, index = sorted(weights), {}
    for s in range(case.shards):
        file = f"model-{s + 1:05}-of-{case.shards:05}.safetensors"
        part = names[s * len(names) // case.shards:(s + 1) * len(names) // case.shards]
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        index |= {name: file for name in part}
    total = sum(t.numel() * t.element_size() for t in weights.values())
    golden_cases.write_json(folder / "model.safetensors.index.json",
                            dict(metadata=dict(total_size=total), weight_map=index))


# --- inputs --------------------------------------------------------------------------------------------------------

def smart_resize(height, width, least, most, factor=28):
    h, w = (max(factor, round(side / factor) * factor) for side in (height, width))  # round: half to even
    if h * w > most:
        beta = (height * width / most) ** 0.5
        h, w = (max(factor, int(side / beta / factor) * factor) for side in (height, width))
    elif h * w < least:
        beta = (least / (height * width)) ** 0.5
        h, w = (int(np.ceil(side * beta / factor)) * factor for side in (height, width))
    return h, w


def patches_of(frames, mean, std, rescale=1 / 255):
    """[frames, h, w, 3] uint8 -> rows (t, merged row, merged col, 2 x 2) of columns (channel, time, y, x)."""
    if len(frames) % 2:
        frames = np.concatenate([frames, frames[-1:]])  # the last frame stands in for the missing one
    values = (frames.astype(np.float64) * rescale).astype(np.float32)
    values = (values - np.float32(mean)) / np.float32(std)
    t, h, w = len(frames) // 2, frames.shape[1] // 14, frames.shape[2] // 14
    values = values.transpose(0, 3, 1, 2).reshape(t, 2, 3, h // 2, 2, 14, w // 2, 2, 14)
    return values.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, -1), [t, h, w]


class Inputs:
    """Everything the model is given for one case, computed from the files in its folder."""

    def __init__(self, folder):
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text())
        self.processor = json.loads((folder / "preprocessor_config.json").read_text())
        self.messages = json.loads((folder / "inputs" / "messages.json").read_text())
        self.resized, self.seconds = {}, []  # what Pillow's bicubic made of the pictures that needed it, by file name
        self.patches = dict(image=[], video=[])
        self.grids = dict(image=[], video=[])
        for part in (p for m in self.messages if isinstance(m["content"], list) for p in m["content"]):
            if part["type"] in ("image", "video"):
                self._add(part["type"], part)
        self.prompt = self._render()
        self.ids = self._expand(load_tokenizer(folder).encode(self.prompt).ids)

    def _add(self, kind, part):
        names = [part["image"]] if kind == "image" else part["video"]
        frames = [Image.open(self.folder / "inputs" / name).convert("RGB") for name in names]
        h, w = smart_resize(frames[0].height, frames[0].width, self.processor["min_pixels"], self.processor["max_pixels"])
        if (w, h) != frames[0].size:
            frames = [frame.resize((w, h), Image.Resampling.BICUBIC) for frame in frames]
            self.resized[names[0]] = frames[0]
        patches, grid = patches_of(np.stack([np.array(f) for f in frames]), self.processor["image_mean"],
                                   self.processor["image_std"])
        self.patches[kind].append(patches)
        self.grids[kind].append(grid)
        if kind == "video":
            self.seconds.append(2 / part["fps"])

    def _render(self):
        import jinja2
        for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
            path = self.folder / name
            if path.exists():
                text = path.read_text()
                template = text if name.endswith("jinja") else json.loads(text).get("chat_template")
                if template:
                    break
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as transformers compiles templates
        return environment.from_string(template).render(messages=self.messages, add_generation_prompt=True)

    def _expand(self, ids):
        counts = {self.config[f"{kind}_token_id"]: iter([t * h * w // 4 for t, h, w in self.grids[kind]])
                  for kind in ("image", "video")}
        out = []
        for i in ids:
            out += [i] * (next(counts[i]) if i in counts else 1)
        return out

    def position_ids(self, rule="released"):
        """[3, n] and the position of the first generated token; "4.57" and "5.x" state how those releases differ."""
        tps = self.config["vision_config"]["tokens_per_second"]
        items = {self.config[f"{kind}_token_id"]: iter(self.grids[kind]) for kind in ("image", "video")}
        seconds = iter(self.seconds)
        columns, following, at = [], 0, 0
        while at < len(self.ids):
            if self.ids[at] not in items:
                columns.append([[following]] * 3)
                at, following = at + 1, following + 1
                continue
            t, h, w = next(items[self.ids[at]])
            per_grid = next(seconds) if self.ids[at] == self.config["video_token_id"] else 0.0
            h, w = h // 2, w // 2
            if rule == "4.57":
                per_grid = int(per_grid)
            times = np.array([int(i * per_grid * tps) for i in range(t)])
            in_single = (np.arange(t, dtype=np.float32) * np.float32(per_grid) * np.float32(tps)).astype(np.int64)
            assert (times == in_single).all(), "the case depends on the width of the float product"
            index = np.indices((t, h, w)).reshape(3, -1)
            index[0] = times[index[0]]
            columns.append(index + following)
            at, following = at + t * h * w, following + (max(h, w) if rule == "5.x" else int(index.max()) + 1)
        return torch.from_numpy(np.concatenate([np.array(c).reshape(3, -1) for c in columns], 1)).long(), following

    def tensors(self):
        out = {}
        for kind, values, grid in (("image", "pixel_values", "image_grid_thw"),
                                   ("video", "pixel_values_videos", "video_grid_thw")):
            if self.grids[kind]:
                out[values] = torch.from_numpy(np.concatenate(self.patches[kind]))
                out[grid] = torch.tensor(self.grids[kind])
        return out


def load_tokenizer(folder):
    """tokenizer.json itself, or the same pipeline rebuilt around vocab.json and merges.txt."""
    from tokenizers import Tokenizer
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    state = json.loads(golden_cases.trained_tokenizer().to_str())
    state["model"]["vocab"] = json.loads((folder / "vocab.json").read_text())
    merges = (folder / "merges.txt").read_text().splitlines()[1:]
    state["model"]["merges"] = [line.split(" ") for line in merges]
    return Tokenizer.from_str(json.dumps(state))


# --- the reference -------------------------------------------------------------------------------------------------

def load_model(folder, dtype, attention):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    arguments = dict(dtype=dtype, attn_implementation=attention)
    fields = json.loads((folder / "config.json").read_text())
    if VERSION.startswith("4.") and "rope_parameters" in fields.get("text_config", {}):
        # 4.x does not know rope_parameters: give it the same numbers in its own words.
        rope = fields["text_config"].pop("rope_parameters")
        fields["text_config"] |= dict(rope_theta=rope["rope_theta"], rope_scaling=dict(
            mrope_section=rope["mrope_section"], rope_type="default"),
                                      tie_word_embeddings=fields["tie_word_embeddings"])
        arguments["config"] = Qwen2_5_VLConfig(**fields)
    model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, output_loading_info=True, **arguments)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    assert model.model.visual.rotary_pos_emb.inv_freq.dtype == torch.float32
    assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32
    return model.eval()


def embeddings(model, inputs):
    """The merged vision tokens, by kind."""
    out = {}
    for kind, values, grid in (("image", "pixel_values", "image_grid_thw"),
                               ("video", "pixel_values_videos", "video_grid_thw")):
        tensors = inputs.tensors()
        if values in tensors:
            result = getattr(model.model, f"get_{kind}_features")(tensors[values], tensors[grid])
            out[f"{kind}_embeds"] = torch.cat(tuple(getattr(result, "pooler_output", result)), 0)
    return out


def forward(model, inputs, **more):
    positions, _ = inputs.position_ids()
    ids = torch.tensor([inputs.ids])
    if not VERSION.startswith("4."):
        more["mm_token_type_ids"] = sum(
            (ids == inputs.config[f"{kind}_token_id"]).int() * n for n, kind in ((1, "image"), (2, "video")))
    return model(input_ids=ids, position_ids=positions[:, None], **inputs.tensors(), **more)


def greedy(model, inputs):
    """64 tokens by argmax with the KV cache, EOS ignored; the ids and each step's gap in standard deviations."""
    _, position = inputs.position_ids()
    output = forward(model, inputs, use_cache=True)
    tokens, gaps = [], []
    while True:
        logits = output.logits[0, -1].float()
        best = logits.topk(2)
        tokens.append(int(best.indices[0]))
        gaps.append(float((best.values[0] - best.values[1]) / logits.std()))
        if len(tokens) == GREEDY_TOKENS:
            return tokens, gaps
        output = model(input_ids=torch.tensor([tokens[-1:]]), position_ids=torch.full((3, 1, 1), position),
                       past_key_values=output.past_key_values, use_cache=True)
        position += 1


def check_rope_index(model, inputs):
    """Asserts what the head of this file says about the get_rope_index of the release that runs."""
    ids, tensors = torch.tensor([inputs.ids]), inputs.tensors()
    if not inputs.grids["image"] and not inputs.grids["video"]:
        return
    arguments = {name: tensors.get(name) for name in ("image_grid_thw", "video_grid_thw")}
    arguments["second_per_grid_ts"] = torch.tensor(inputs.seconds) if inputs.seconds else None
    if not VERSION.startswith("4."):
        arguments["mm_token_type_ids"] = sum(
            (ids == inputs.config[f"{kind}_token_id"]).int() * n for n, kind in ((1, "image"), (2, "video")))
    theirs = model.model.get_rope_index(ids, **arguments)[0][:, 0]
    assert torch.equal(theirs, inputs.position_ids("4.57" if VERSION.startswith("4.") else "5.x")[0]), inputs.folder
    ours = inputs.position_ids()[0]
    where = (theirs != ours).any(0).nonzero().flatten().tolist()
    assert not where or inputs.seconds, f"{inputs.folder}: the releases agree about images"
    if where:
        print(f"  {inputs.folder.name}: position ids of {VERSION} differ from ours at {len(where)} of {len(inputs.ids)} "
              f"tokens, first at {where[0]}: {theirs[:, where[0]].tolist()} for {ours[:, where[0]].tolist()}")


def logit_positions(length):
    """The last 16 positions and about 24 spread over the rest."""
    step = max(1, length // 24)
    return sorted(set(range(0, length, step)) | set(range(max(0, length - 16), length)))


# --- writing and verifying -----------------------------------------------------------------------------------------

def acceptable(tokens, gaps):
    pads = {token_ids()[name] for name in ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>")}
    return min(gaps) >= GAP_MIN and len(set(tokens)) >= DISTINCT_MIN and not pads & set(tokens)


def choose_seed(case, folder):
    """The first seed whose greedy continuation is neither nearly tied nor a single repeated token."""
    for attempt in range(case.attempt, case.attempt + 200):
        seed = 1000 * case.seed + attempt
        write_weights(case, folder, seed)
        model, inputs = load_model(folder, torch.float32, "eager"), Inputs(folder)
        tokens, gaps = greedy(model, inputs)
        if acceptable(tokens, gaps):
            return seed, model, inputs, tokens, gaps
    raise SystemExit(f"{case.name}: no seed gives clear greedy tokens")


def write_case(case, out, tokenizer, template):
    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    golden_cases.write_configs(case, folder)
    golden_cases.write_tokenizer(case, folder, tokenizer, template)
    golden_cases.write_inputs(case, folder / "inputs")
    seed, model, inputs, tokens, gaps = choose_seed(case, folder)
    check_rope_index(model, inputs)
    where = logit_positions(len(inputs.ids))
    full = forward(model, inputs).logits[0]
    outputs = dict(input_ids=torch.tensor(inputs.ids, dtype=torch.int32),
                   position_ids=inputs.position_ids()[0].to(torch.int32),
                   logit_positions=torch.tensor(where, dtype=torch.int32),
                   greedy_tokens=torch.tensor(tokens, dtype=torch.int32), logits_fp32=full[where])
    outputs |= {name: grid.to(torch.int32) for name, grid in inputs.tensors().items() if name.endswith("thw")}
    outputs |= {name + "_fp32": value for name, value in embeddings(model, inputs).items()}
    for attention in ("eager", "sdpa"):
        low = load_model(folder, torch.bfloat16, attention)
        outputs["logits_bf16_" + attention] = forward(low, inputs).logits[0][where]
        outputs |= {f"{name}_bf16_{attention}": value for name, value in embeddings(low, inputs).items()}
    (folder / "expected").mkdir()
    for name, image in inputs.resized.items():
        image.save(folder / "expected" / name, optimize=True)
    metadata = dict(case=case.name, about=case.about, seed=seed, transformers=VERSION, torch=torch.__version__,
                    cpu=torch.backends.cpu.get_cpu_capability(), smallest_greedy_gap=f"{min(gaps):.4f}",
                    second_per_grid=json.dumps(inputs.seconds))
    save_file({name: value.detach().contiguous() for name, value in outputs.items()},
              folder / "expected" / "outputs.safetensors", {k: str(v) for k, v in metadata.items()})
    text = load_tokenizer(folder).decode(tokens, skip_special_tokens=True)
    golden_cases.write_json(folder / "expected" / "text.json", metadata | dict(prompt=inputs.prompt, answer=text))
    print_case(case, folder, inputs, outputs, seed, tokens, gaps)


def print_case(case, folder, inputs, outputs, seed, tokens, gaps):
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    exact = outputs["logits_fp32"]
    distance = {a: float((outputs["logits_bf16_" + a].float() - exact).norm() / exact.norm()) for a in ("eager", "sdpa")}
    print(f"{case.name}: seed {seed}, {len(inputs.ids)} ids, {len(set(tokens))} distinct tokens, smallest gap "
          f"{min(gaps):.3f}, bf16 off by {distance['eager']:.4f} eager {distance['sdpa']:.4f} sdpa, {size / 1e6:.2f} MB",
          flush=True)


def verify_case(folder):
    """Compares this release's fp32 results with the committed ones; returns the worst relative difference."""
    golden = load_file(folder / "expected" / "outputs.safetensors")
    inputs = Inputs(folder)
    assert golden["input_ids"].tolist() == inputs.ids
    assert torch.equal(golden["position_ids"].long(), inputs.position_ids()[0])
    worst = 0.0
    for attention in ("eager", "sdpa"):
        model = load_model(folder, torch.float32, attention)
        check_rope_index(model, inputs)
        found = {name + "_fp32": value for name, value in embeddings(model, inputs).items()}
        found["logits_fp32"] = forward(model, inputs).logits[0][golden["logit_positions"].long()]
        for name, value in found.items():
            worst = max(worst, float((value - golden[name]).norm() / golden[name].norm()))
        tokens, _ = greedy(model, inputs)
        assert tokens == golden["greedy_tokens"].tolist(), f"{folder.name}: {attention} gives other greedy tokens"
    print(f"{folder.name}: transformers {VERSION} agrees, worst relative difference {worst:.1e}", flush=True)
    return worst


def verify_preprocessing(folder):
    """Our patches against transformers' slow (PIL) image processor, where this release still has one."""
    from transformers import Qwen2VLImageProcessor
    inputs = Inputs(folder)
    processor = Qwen2VLImageProcessor.from_pretrained(folder)
    size = dict(shortest_edge=inputs.processor["min_pixels"], longest_edge=inputs.processor["max_pixels"])
    parts = [p for m in inputs.messages if isinstance(m["content"], list) for p in m["content"]]
    for kind in ("image", "video"):
        ours = iter(zip(inputs.patches[kind], inputs.grids[kind]))
        for part in (p for p in parts if p["type"] == kind):
            names = [part["image"]] if kind == "image" else part["video"]
            frames = [Image.open(folder / "inputs" / name) for name in names]
            theirs, grid = processor._preprocess(
                frames, do_resize=True, size=size, resample=processor.resample, do_rescale=True,
                rescale_factor=processor.rescale_factor, do_normalize=True, image_mean=processor.image_mean,
                image_std=processor.image_std, patch_size=14, temporal_patch_size=2, merge_size=2, do_convert_rgb=True)
            patches, our_grid = next(ours)
            assert list(grid) == our_grid and np.array_equal(theirs, patches), (folder, part)


def check_coverage(cases):
    """Every remainder mod 4 of the merged grid, in every combination of both axes."""
    pairs = set()
    for case in cases:
        for _, parts in case.messages:
            for part in parts if isinstance(parts, list) else []:
                if isinstance(part, (golden_cases.Picture, golden_cases.Video)):
                    h, w = smart_resize(part.height, part.width, case.min_pixels, case.max_pixels)
                    if case.vision.window == 112:
                        pairs.add((h // 28 % 4, w // 28 % 4))
    assert len(pairs) == 16, sorted(pairs)


def dump_case(folder, file):
    """Every intermediate activation of the fp32 eager model, for debugging an implementation stage by stage."""
    model, inputs, found = load_model(folder, torch.float32, "eager"), Inputs(folder), {}
    text, visual = model.model.language_model, model.model.visual

    def keep(name):
        def hook(_, __, output):
            found.setdefault(name, (output[0] if isinstance(output, tuple) else output).detach().squeeze(0))
        return hook

    visual.patch_embed.register_forward_hook(keep("vision.patch_embed"))
    for i, block in enumerate(visual.blocks):
        block.register_forward_hook(keep(f"vision.block{i}"))
        for part in ("norm1", "attn", "norm2", "mlp"):
            getattr(block, part).register_forward_hook(keep(f"vision.block{i}.{part}"))
    visual.blocks[0].attn.qkv.register_forward_hook(keep("vision.block0.qkv"))
    visual.merger.register_forward_hook(keep("vision.merger_before_reverse"))
    visual.register_forward_hook(keep("vision.output"))
    for i, layer in enumerate(text.layers):
        layer.register_forward_hook(keep(f"text.layer{i}"))
        for part in ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp"):
            getattr(layer, part).register_forward_hook(keep(f"text.layer{i}.{part}"))
        for part in ("q_proj", "k_proj", "v_proj"):
            getattr(layer.self_attn, part).register_forward_hook(keep(f"text.layer{i}.{part}"))
    text.layers[0].input_layernorm.register_forward_pre_hook(
        lambda _, a: found.update({"text.input": a[0].detach()[0]}))
    text.norm.register_forward_hook(keep("text.norm"))
    text.rotary_emb.register_forward_hook(lambda _, __, o: found.update(
        {"text.rope_cos": o[0].detach()[:, 0], "text.rope_sin": o[1].detach()[:, 0]}))
    module = sys.modules[type(model).__module__]
    rotations = {"apply_rotary_pos_emb_vision": "vision.block0.rotated", "apply_multimodal_rotary_pos_emb": "text.layer0.rotated"}
    for function, name in rotations.items():
        def wrapped(*a, original=getattr(module, function), name=name, **k):
            q, k_ = original(*a, **k)
            found.setdefault(name + "_q", q.detach().squeeze(0).contiguous())
            found.setdefault(name + "_k", k_.detach().squeeze(0).contiguous())
            return q, k_
        setattr(module, function, wrapped)
    found["logits"] = forward(model, inputs).logits[0]
    found["input_ids"], found["position_ids"] = torch.tensor(inputs.ids), inputs.position_ids()[0]
    found |= inputs.tensors()
    found["vision.window_index"] = visual.get_window_index(next(
        v for k, v in inputs.tensors().items() if k.endswith("thw")))[0] if inputs.seconds or inputs.grids["image"] else torch.zeros(0)
    save_file({k: v.detach().clone().contiguous() for k, v in found.items()}, file)
    print("\n".join(f"{k} {list(v.shape)}" for k, v in found.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "tests" / "golden")
    parser.add_argument("--case", action="append", help="only this case (repeatable)")
    parser.add_argument("--chat-template", type=pathlib.Path,
                        default=REPOSITORY / "models" / "qwen-tokenizer" / "chat_template.jinja")
    parser.add_argument("--verify", type=pathlib.Path, metavar="DIR", help="compare instead of writing")
    parser.add_argument("--dump", nargs=2, metavar=("CASE", "FILE"), help="write a case's activations")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cases = [c for c in golden_cases.all_cases() if not arguments.case or c.name in arguments.case]
    if arguments.dump:
        return dump_case(arguments.out / arguments.dump[0], arguments.dump[1])
    if arguments.verify:
        worst = max(verify_case(arguments.verify / case.name) for case in cases)
        if VERSION.startswith("4."):
            for case in cases:
                verify_preprocessing(arguments.verify / case.name)
        return 0 if worst < 2e-5 else f"differs by {worst:.1e}"
    check_coverage(golden_cases.all_cases())
    tokenizer, template = golden_cases.trained_tokenizer(), arguments.chat_template.read_text()
    for number, case in enumerate(golden_cases.all_cases()):
        case.seed = number + 1
        if not arguments.case or case.name in arguments.case:
            write_case(case, arguments.out, tokenizer, template)


if __name__ == "__main__":
    sys.exit(main())
