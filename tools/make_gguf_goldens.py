#!/usr/bin/env python3
"""Makes tests/gguf with pip gguf, the oracle of GGUF's layouts.

layouts.safetensors   of every block format some blocks, and what gguf.quants.dequantize makes of them
mixed/                a tiny random model whose matrices take turns in every type, and its mmproj
bf16/                 the golden checkpoint one_image as llama.cpp's converter writes it, in two parts

  python -m pip install gguf==0.19.0 numpy safetensors
  python tools/make_gguf_goldens.py --golden tests/golden --out tests/gguf

Names and keys are those that llama.cpp's convert_hf_to_gguf.py writes; k-quants, which gguf-py reads but does not make,
are random blocks with scales of the size that weights have.
"""

import argparse
import json
import pathlib

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from safetensors import safe_open
from safetensors.numpy import save_file

BLOCKS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
# Where a block keeps numbers in fp16.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
# A weight is the scale times integers up to this.
REACH = {"Q4_0": 8, "Q4_1": 15, "Q5_0": 16, "Q5_1": 31, "Q8_0": 128, "Q4_K": 63 * 15, "Q5_K": 63 * 31,
         "Q6_K": 128 * 32, "IQ4_NL": 127, "IQ4_XS": 32 * 127}


def random_blocks(name, shape, random, size):
    """Blocks whose weights reach about `size`."""
    elements, nbytes = GGML_QUANT_SIZES[Type[name]]
    blocks = random.integers(0, 256, (int(np.prod(shape)) // elements, nbytes), dtype=np.uint8)
    for at in HALVES[name]:
        reach = REACH[name] if at == 0 or name == "Q6_K" else {"Q4_1": 2, "Q5_1": 2}.get(name, 63 * 4)
        scale = (size / reach * random.uniform(0.5, 1, len(blocks)) * random.choice([-1, 1], len(blocks)))
        if name in ("Q4_K", "Q5_K"):
            scale = np.abs(scale)
        blocks[:, at:at + 2] = scale.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return blocks.reshape(*shape[:-1], -1)


def write_layouts(path, random):
    tensors = {}
    for name in BLOCKS:
        elements, _ = GGML_QUANT_SIZES[Type[name]]
        blocks = random_blocks(name, (8, elements), random, 0.1)
        tensors[name + ".blocks"] = blocks
        tensors[name + ".values"] = gguf.quants.dequantize(blocks, Type[name])
    save_file(tensors, path, {"made_with": f"gguf 0.19.0, numpy {np.__version__}"})


def bf16(array):
    return gguf.quants.quantize(array.astype(np.float32), Type.BF16)


class Folder:
    """A checkpoint in Hugging Face form; tensors as f32 under the older names."""

    def __init__(self, path):
        self.config = json.loads((path / "config.json").read_text())
        self.preprocessor = json.loads((path / "preprocessor_config.json").read_text())
        self.tokenizer = json.loads((path / "tokenizer.json").read_text())
        template = path / "chat_template.json"
        self.chat_template = json.loads(template.read_text())["chat_template"] if template.exists() else None
        self.tensors = {}
        import struct
        for file in sorted(path.glob("*.safetensors")):
            data = file.read_bytes()
            length = struct.unpack("<Q", data[:8])[0]
            for name, entry in json.loads(data[8:8 + length]).items():
                if name == "__metadata__":
                    continue
                begin, end = entry["data_offsets"]
                raw = np.frombuffer(data[8 + length + begin:8 + length + end], np.uint16)
                assert entry["dtype"] == "BF16", entry
                self.tensors[name] = (raw.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


TEXT = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
VISION = {"norm1": "ln1", "norm2": "ln2", "attn.proj": "attn_out", "mlp.gate_proj": "ffn_gate",
          "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def split_name(name):
    stem, kind = name.rsplit(".", 1)
    return stem, "." + kind


def add_plain(writer, name, array, dtype):
    """As the converter: vectors in F32, else the type asked for."""
    if array.ndim == 1 or dtype == "F32":
        writer.add_tensor(name, array.astype(np.float32))
    elif dtype == "F16":
        writer.add_tensor(name, array.astype(np.float16))
    elif dtype == "BF16":
        writer.add_tensor(name, bf16(array), raw_dtype=Type.BF16)
    else:
        writer.add_tensor(name, gguf.quants.quantize(array.astype(np.float32), Type[dtype]), raw_dtype=Type[dtype])


def add_tokenizer(writer, folder, vocabulary):
    by_id = {i: t for t, i in folder.tokenizer["model"]["vocab"].items()}
    added = {t["id"]: t for t in folder.tokenizer["added_tokens"]}
    tokens, kinds = [], []
    for i in range(vocabulary):
        if i in added:
            content = added[i]["content"]
            control = added[i]["special"] or (content.startswith("<|") and content.endswith("|>"))
            tokens.append(content)
            kinds.append(gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED)
        elif i in by_id:
            tokens.append(by_id[i])
            kinds.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{i}]")
            kinds.append(gguf.TokenType.UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in folder.tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    if folder.chat_template:
        writer.add_chat_template(folder.chat_template)


def text_writer(path, folder, **split):
    text = folder.config.get("text_config", folder.config)
    writer = gguf.GGUFWriter(path, "qwen2vl", **split)
    writer.add_name("tiny")
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    rope = text.get("rope_scaling") or text["rope_parameters"]
    writer.add_rope_freq_base(rope.get("rope_theta", text.get("rope_theta")))
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_rope_dimension_sections(rope["mrope_section"] + [0])
    add_tokenizer(writer, folder, text["vocab_size"])
    return writer


def vision_writer(path, folder):
    vision = folder.config["vision_config"]
    full = vision["fullatt_block_indexes"]
    pattern = full[0] + 1
    assert full == list(range(pattern - 1, vision["depth"], pattern)), full
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(vision["out_hidden_size"])
    writer.add_vision_image_size(560)
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["depth"])
    writer.add_vision_head_count(vision["num_heads"])
    writer.add_vision_image_mean(folder.preprocessor["image_mean"])
    writer.add_vision_image_std(folder.preprocessor["image_std"])
    writer.add_clip_projector_type("qwen2.5vl_merger")
    writer.add_vision_use_silu(True)
    writer.add_vision_n_wa_pattern(pattern)
    writer.add_vision_attention_layernorm_eps(1e-6)
    return writer


def close(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_text(path, folder, type_of, **split):
    """type_of(gguf name, array) gives the name of a type, or (name, blocks)."""
    writer = text_writer(path, folder, **split)
    for name, array in folder.tensors.items():
        if name.startswith("visual."):
            continue
        stem, kind = split_name(name)
        if stem == "model.embed_tokens":
            new = "token_embd" + kind
        elif stem == "model.norm":
            new = "output_norm" + kind
        elif stem == "lm_head":
            new = "output" + kind
        else:
            _, _, layer, part = stem.split(".", 3)
            new = f"blk.{layer}.{TEXT[part]}{kind}"
        chosen = "F32" if array.ndim == 1 else type_of(new, array)
        if isinstance(chosen, str):
            add_plain(writer, new, array, chosen)
        else:
            writer.add_tensor(new, chosen[1], raw_dtype=Type[chosen[0]])
    close(writer)


def write_vision(path, folder, type_of):
    writer = vision_writer(path, folder)
    for name, array in folder.tensors.items():
        if not name.startswith("visual."):
            continue
        stem, kind = split_name(name[len("visual."):])
        if stem == "patch_embed.proj":
            for frame, end in enumerate(["", ".1"]):
                add_plain(writer, "v.patch_embd.weight" + end, array[:, :, frame], "F16")
        elif stem.startswith("merger."):
            new = {"merger.ln_q": "v.post_ln", "merger.mlp.0": "mm.0", "merger.mlp.2": "mm.2"}[stem] + kind
            add_plain(writer, new, array, type_of(new, array))
        else:
            _, block, part = stem.split(".", 2)
            if part == "attn.qkv":
                for which, rows in zip("qkv", np.split(array, 3)):
                    new = f"v.blk.{block}.attn_{which}{kind}"
                    add_plain(writer, new, rows, type_of(new, rows))
            else:
                new = f"v.blk.{block}.{VISION[part]}{kind}"
                add_plain(writer, new, array, type_of(new, array))
    close(writer)


def fallback(name, columns):
    """What llama-quantize takes for rows that blocks of 256, or of 32, do not divide."""
    if name in ("F32", "F16", "BF16"):
        return name
    if columns % GGML_QUANT_SIZES[Type[name]][0] == 0:
        return name
    name = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}.get(name, "F16")
    return name if name != "F16" and columns % 32 == 0 else "F16"


def tiny_folder(golden, random):
    """Random weights: text of 256 columns for k-quants, an MLP of 288 for their fallbacks, and a small vision tower."""
    folder = Folder(golden / "one_image")
    hidden, inner, heads, kv, head = 256, 288, 4, 2, 64
    c = folder.config
    c.update(hidden_size=hidden, intermediate_size=inner, num_attention_heads=heads, num_key_value_heads=kv,
             num_hidden_layers=2, tie_word_embeddings=False)
    c["rope_scaling"] = {"type": "mrope", "mrope_section": [8, 12, 12]}
    v = c["vision_config"]
    v.update(hidden_size=64, intermediate_size=84, num_heads=2, out_hidden_size=hidden, depth=2,
             fullatt_block_indexes=[1])
    tensors = {}

    def weight(name, *shape):
        tensors[name + ".weight"] = random.normal(0, 1.5 / shape[-1] ** 0.5, shape).astype(np.float32)

    def norm(name, size):
        tensors[name + ".weight"] = random.uniform(0.8, 1.2, size).astype(np.float32)

    def bias(name, size):
        tensors[name + ".bias"] = random.normal(0, 0.2, size).astype(np.float32)

    weight("model.embed_tokens", c["vocab_size"], hidden)
    for i in range(2):
        p = f"model.layers.{i}."
        norm(p + "input_layernorm", hidden)
        for part, out in (("q", heads * head), ("k", kv * head), ("v", kv * head)):
            weight(p + f"self_attn.{part}_proj", out, hidden)
            bias(p + f"self_attn.{part}_proj", out)
        weight(p + "self_attn.o_proj", hidden, heads * head)
        norm(p + "post_attention_layernorm", hidden)
        weight(p + "mlp.gate_proj", inner, hidden)
        weight(p + "mlp.up_proj", inner, hidden)
        weight(p + "mlp.down_proj", hidden, inner)
    norm("model.norm", hidden)
    weight("lm_head", c["vocab_size"], hidden)
    wide, deep = v["hidden_size"], v["intermediate_size"]
    tensors["visual.patch_embed.proj.weight"] = random.normal(0, 0.03, (wide, 3, 2, 14, 14)).astype(np.float32)
    for i in range(2):
        p = f"visual.blocks.{i}."
        norm(p + "norm1", wide)
        norm(p + "norm2", wide)
        for part, out, columns in (("attn.qkv", 3 * wide, wide), ("attn.proj", wide, wide),
                                   ("mlp.gate_proj", deep, wide), ("mlp.up_proj", deep, wide),
                                   ("mlp.down_proj", wide, deep)):
            weight(p + part, out, columns)
            bias(p + part, out)
    norm("visual.merger.ln_q", wide)
    weight("visual.merger.mlp.0", 4 * wide, 4 * wide)
    bias("visual.merger.mlp.0", 4 * wide)
    weight("visual.merger.mlp.2", hidden, 4 * wide)
    bias("visual.merger.mlp.2", hidden)
    folder.tensors = tensors
    return folder


# Every type at least once, k-quants most.
MIXED = {
    "token_embd": "Q6_K", "output": "Q8_0",
    "blk.0.attn_q": "Q4_K", "blk.0.attn_k": "Q5_K", "blk.0.attn_v": "Q6_K", "blk.0.attn_output": "Q8_0",
    "blk.0.ffn_gate": "IQ4_XS", "blk.0.ffn_up": "IQ4_NL", "blk.0.ffn_down": "Q4_K",
    "blk.1.attn_q": "Q4_0", "blk.1.attn_k": "Q4_1", "blk.1.attn_v": "Q5_0", "blk.1.attn_output": "Q5_1",
    "blk.1.ffn_gate": "F16", "blk.1.ffn_up": "BF16", "blk.1.ffn_down": "Q6_K",
}


def write_mixed(out, folder, random):
    makeable = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "F32")
    expected = {}

    def text_type(name, array):
        wanted = fallback(MIXED[split_name(name)[0]], array.shape[-1])
        if wanted in makeable:
            if wanted in ("F16", "BF16"):
                return wanted
            blocks = gguf.quants.quantize(array.astype(np.float32), Type[wanted])
        else:
            blocks = random_blocks(wanted, array.shape, random, 3 * float(array.std()))
        expected[name] = gguf.quants.dequantize(blocks, Type[wanted])[:2]
        return wanted, blocks

    def vision_type(name, array):
        return "F32" if array.ndim == 1 else fallback("Q8_0", array.shape[-1])

    write_text(out / "model.gguf", folder, text_type)
    write_vision(out / "mmproj.gguf", folder, vision_type)
    save_file(expected, out / "first_rows.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    random = np.random.default_rng(19)
    for folder in ("mixed", "bf16"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    write_layouts(options.out / "layouts.safetensors", random)
    write_mixed(options.out / "mixed", tiny_folder(options.golden, random), random)
    folder = Folder(options.golden / "one_image")
    write_text(options.out / "bf16" / "model.gguf", folder, lambda name, array: "BF16", split_max_tensors=20)
    write_vision(options.out / "bf16" / "mmproj.gguf", folder, lambda name, array: "F32" if array.ndim == 1 else "BF16")


if __name__ == "__main__":
    main()
