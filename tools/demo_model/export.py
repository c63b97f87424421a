"""Writes a trained state of train.py as a Hugging Face folder, bf16, in the layout Qwen2.5-VL was published in.

    python tools/demo_model/export.py --state build/demo-training/best.pt --tokenizer build/demo-training/tokenizer.json \
        --out models/fovea-demo

If transformers is installed, the folder is loaded unmodified and its logits are compared with the training model's.
"""

import argparse
import json
from pathlib import Path

import data
import torch
from model import Model
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent.parent


def config_of(c):
    ids = c.ids
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
        "attention_dropout": 0.0, "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"], "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"], "hidden_act": "silu", "hidden_size": c.hidden,
        "initializer_range": 0.02, "intermediate_size": c.inner, "max_position_embeddings": 32768,
        "max_window_layers": c.layers, "num_attention_heads": c.heads, "num_hidden_layers": c.layers,
        "num_key_value_heads": c.kv_heads, "rms_norm_eps": 1e-6, "rope_theta": c.rope_theta,
        "rope_scaling": {"type": "mrope", "mrope_section": list(c.mrope_section)}, "sliding_window": 32768,
        "use_sliding_window": False, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True,
        "vocab_size": c.vocab,
        "vision_config": {
            "depth": c.vision_depth, "fullatt_block_indexes": list(c.full_attention_blocks), "hidden_act": "silu",
            "hidden_size": c.vision_hidden, "in_chans": 3, "intermediate_size": c.vision_inner,
            "num_heads": c.vision_heads, "out_hidden_size": c.hidden, "patch_size": 14, "spatial_merge_size": 2,
            "spatial_patch_size": 14, "temporal_patch_size": 2, "tokens_per_second": 2,
            "window_size": 14 * c.window}}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_folder(state, tokenizer, out):
    c = state["config"]
    out.mkdir(parents=True, exist_ok=True)
    names = {"language_model.": "model.", "visual.": "visual."}
    tensors = {}
    for name, value in state["model"].items():
        prefix = next(p for p in names if name.startswith(p))
        tensors[names[prefix] + name[len(prefix):]] = value.to(torch.bfloat16).contiguous()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "config.json", config_of(c))
    write_json(out / "generation_config.json", {
        "bos_token_id": c.ids["<|endoftext|>"], "pad_token_id": c.ids["<|endoftext|>"], "do_sample": False,
        "eos_token_id": [c.ids["<|im_end|>"], c.ids["<|endoftext|>"]]})
    write_json(out / "preprocessor_config.json", {
        "min_pixels": 3136, "max_pixels": 1003520, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": data.MEAN.astype(float).round(8).tolist(), "image_std": data.STD.astype(float).round(8).tolist(),
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"})
    tokenizer.save(str(out / "tokenizer.json"))
    template = (ROOT / "models/qwen-tokenizer/chat_template.jinja").read_text()
    write_json(out / "chat_template.json", {"chat_template": template})
    write_json(out / "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "errors": "replace",
        "model_max_length": 32768, "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer",
        "additional_special_tokens": data.SPECIAL[1:], "chat_template": template,
        "added_tokens_decoder": {
            str(c.ids[name]): {"content": name, "lstrip": False, "normalized": False, "rstrip": False,
                               "single_word": False, "special": True} for name in data.SPECIAL}})


@torch.no_grad()
def check_against_transformers(state, out, fovea, reader):
    """Largest difference between the two models' logits of the same record, in fp32 on the same bf16 weights."""
    import train
    from transformers import Qwen2_5_VLForConditionalGeneration

    c = state["config"]
    ours = Model(c)
    ours.load_state_dict({k: v.to(torch.bfloat16).float() for k, v in state["model"].items()})
    theirs, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(out, dtype=torch.float32,
                                                                        output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    worst = 0.0
    for record in data.make_suite(fovea, "mixed", 4, 5, images="3", tokens="60"):
        sample = reader.sample(record)
        logits, batch = train.run(ours, [sample], c.ids["<|image_pad|>"])
        grid = torch.tensor([[1, h, w] for h, w, _ in sample.images])
        rows = len(sample.ids)
        theirs_logits = theirs(input_ids=torch.tensor([sample.ids]), attention_mask=torch.ones(1, rows, dtype=int),
                               pixel_values=torch.cat([p for *_, p in sample.images]), image_grid_thw=grid).logits[0]
        places = batch.answer_places[:, 1]
        worst = max(worst, (theirs_logits[places] - logits).abs().max().item() / logits.abs().max().item())
    print(f"transformers loads it unmodified; logits differ by at most {worst:.1e} of the largest")
    assert worst < 1e-4, "the training model does not compute what transformers computes"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", default=ROOT / "models/fovea-demo", type=Path)
    parser.add_argument("--fovea", default="build/fovea")
    arguments = parser.parse_args()
    state = torch.load(arguments.state, weights_only=False)
    tokenizer = data.Tokenizer.from_file(arguments.tokenizer)
    write_folder(state, tokenizer, arguments.out)
    check_against_transformers(state, arguments.out, arguments.fovea, data.Reader(tokenizer))


if __name__ == "__main__":
    main()
