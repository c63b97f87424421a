#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets into corpus/TARGET: small valid inputs of every form, named by what they are.

  python3 tests/fuzz/make_seeds.py          (needs nothing but Python; the same files every time)

Files that begin with "reaches-" or "crash-" are not this script's: tools/fuzz.py keeps them there.
"""
import base64
import copy
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MEDIA = ROOT / "tests" / "data" / "media"
BETWEEN = "\n%%\n"


def put(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def pictures():
    for target, names in {
        "jpeg": ["jpeg_q30.jpg", "jpeg_grey.jpg", "jpeg_exif6.jpg", "jpeg_progressive.jpg", "jpeg_tiny.jpg", "jpeg_xmp6.jpg"],
        "png": ["png_grey1.png", "png_grey4_interlaced.png", "png_grey16.png", "png_la8.png", "png_palette2_interlaced.png",
                "png_grey8_trns.png", "png_exif6.png", "png_xmp3.png", "png_one_pixel.png", "png_raw_profile8.png"],
        "webp": ["webp_animated.webp", "webp_exif5.webp", "webp_lossy.webp", "webp_lossy_alpha.webp"],
        "gif": ["gif_animated.gif", "gif_interlaced.gif", "gif_partial_transparent.gif", "gif_beyond_screen.gif"],
        "bmp": ["bmp_1.bmp", "bmp_4.bmp", "bmp_8.bmp", "bmp_16_565.bmp", "bmp_rle8.bmp", "bmp_top_down.bmp", "bmp_32_alpha.bmp"],
        "tiff": ["tiff_fax_group4.tif", "tiff_grey.tif", "tiff_la.tif", "tiff_palette.tif", "tiff_turned6.tif", "tiff_grey16_tiles.tif"],
        "picture": ["jpeg_exif5.jpg", "png_exif6.png", "webp_exif5.webp", "gif_plain.gif", "bmp_4.bmp"],
        "video": ["video_short.mp4", "video_rotated.mp4", "video_vp9.webm", "audio_only.mp4", "gif_animated.gif"],
    }.items():
        for name in names:
            put(target, name, (MEDIA / name).read_bytes())
    pixel = base64.b64encode((MEDIA / "png_one_pixel.png").read_bytes()).decode()
    put("data_url", "padded", "data:image/png;base64," + pixel)
    put("data_url", "broken_lines", "data:image/png;base64," + "\r\n".join(pixel[i:i + 20] for i in range(0, len(pixel), 20)))
    put("data_url", "escaped_path", "file:///no/such%20file.png")
    put("data_url", "network", "https://example.org/a.png")


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, shape, content in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return text, data


def weights():
    many = [("model.norm.weight", "F32", [3], bytes(12)), ("ids", "I64", [2, 1], bytes(16)), ("halves", "BF16", [3, 2], bytes(12)),
            ("scalar", "F16", [], bytes(2)), ("bytes", "U8", [5], bytes(5)), ("empty", "I8", [0, 4], b"")]
    for name, tensors, metadata in (("several", many, {"format": "pt"}), ("one", many[2:3], None), ("none", [], {"a": "b"})):
        header, data = safetensors(tensors, metadata)
        put("safetensors", name, struct.pack("<Q", len(header)) + header + data)
        put("safetensors_header", name, struct.pack("<H", len(data)) + header)
    put("safetensors_header", "escapes", struct.pack("<H", 1) + rb'{"\u0061\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}')
    put("weight_index", "two_shards", {"metadata": {"total_size": 4}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})
    put("weight_index", "outside", {"weight_map": {"x": "../a.safetensors"}})


class Gguf:
    """A GGUF file, value by value."""

    def __init__(self):
        self.keys, self.infos, self.data, self.counts = b"", b"", b"", [0, 0]

    @staticmethod
    def text(value):
        value = value.encode() if isinstance(value, str) else value
        return struct.pack("<Q", len(value)) + value

    def value(self, value):
        if isinstance(value, bool):
            return 7, struct.pack("<B", value)
        if isinstance(value, int):
            return 4, struct.pack("<I", value)
        if isinstance(value, float):
            return 6, struct.pack("<f", value)
        if isinstance(value, str):
            return 8, self.text(value)
        parts = [self.value(v) for v in value] or [(8, b"")]
        kind = parts[0][0] if parts[0][0] != 4 else 5  # lists of numbers are signed
        return 9, struct.pack("<IQ", kind, len(value)) + b"".join(p[1] for p in parts)

    def key(self, name, value):
        kind, content = self.value(value)
        self.keys += self.text(name) + struct.pack("<I", kind) + content
        self.counts[1] += 1

    def tensor(self, name, kind, shape, size):
        self.data += bytes(-len(self.data) % 32)
        self.infos += self.text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
        self.infos += struct.pack("<IQ", kind, len(self.data))
        self.data += bytes(i * 7 % 60 for i in range(size))
        self.counts[0] += 1

    def done(self):
        head = b"GGUF" + struct.pack("<IQQ", 3, *self.counts) + self.keys + self.infos
        return head + bytes(-len(head) % 32) + self.data


def bytes_alphabet():
    """The 256 letters that stand for bytes in a vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def lora_adapters():
    text, visual = "base_model.model.model.language_model.layers.", "base_model.model.visual.blocks."
    forms = {
        "plain": ({"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"q_proj": 3}},
                  [(f"{text}{i}.self_attn.q_proj.", 2 if i == 1 else 1, 128, 128) for i in range(3)]),
        "dora": ({"use_dora": True, "use_rslora": True, "target_modules": ".*qkv"},
                 [(f"{visual}{i}.attn.qkv.", 1, 32, 96) for i in range(4)]),
        "saved": ({"modules_to_save": ["merger.ln_q"], "target_modules": None}, []),
    }
    for name, (fields, modules) in forms.items():
        config = json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "bias": "none"} | fields).encode()
        tensors = []
        for module, rank, columns, rows in modules:
            tensors += [(module + "lora_A.weight", "F16", [rank, columns], bytes(2 * rank * columns)),
                        (module + "lora_B.weight", "BF16", [rows, rank], bytes(2 * rank * rows))]
            if "use_dora" in fields:
                tensors.append((module + "lora_magnitude_vector", "F16", [rows], bytes(2 * rows)))
        if not modules:
            tensors.append(("base_model.model.model.visual.merger.ln_q.weight", "F32", [32], bytes(128)))
        header, data = safetensors(tensors)
        put("lora_adapter", name, struct.pack("<I", len(config)) + config + struct.pack("<Q", len(header)) + header + data)


def gguf_models():
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokens = bytes_alphabet() + ["ab"] + specials + ["[PAD264]"]
    # Type and bytes of 32 elements.
    for name, kind, size in (("bf16", 30, 64), ("q8_0", 8, 34), ("q4_1", 3, 20)):
        model, mmproj = Gguf(), Gguf()
        for key, value in {
            "general.architecture": "qwen2vl", "qwen2vl.block_count": 1, "qwen2vl.context_length": 64, "qwen2vl.embedding_length": 32,
            "qwen2vl.feed_forward_length": 32, "qwen2vl.attention.head_count": 1, "qwen2vl.attention.head_count_kv": 1,
            "qwen2vl.rope.freq_base": 1e6, "qwen2vl.attention.layer_norm_rms_epsilon": 1e-6, "qwen2vl.rope.dimension_sections": [4, 6, 6, 0],
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [1] * 257 + [3] * 7 + [5], "tokenizer.ggml.merges": ["a b"],
            "tokenizer.ggml.eos_token_id": 259, "tokenizer.ggml.add_bos_token": False,
        }.items():
            model.key(key, value)
        model.tensor("token_embd.weight", kind, [265, 32], 265 * size)
        model.tensor("output_norm.weight", 0, [32], 128)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            model.tensor(f"blk.0.{part}.weight", kind, [32, 32], 32 * size)
            if part in ("attn_q", "attn_k", "attn_v"):
                model.tensor(f"blk.0.{part}.bias", 0, [32], 128)
        for part in ("attn_norm", "ffn_norm"):
            model.tensor(f"blk.0.{part}.weight", 0, [32], 128)
        for key, value in {
            "general.architecture": "clip", "clip.projector_type": "qwen2.5vl_merger", "clip.use_silu": True,
            "clip.vision.block_count": 1, "clip.vision.embedding_length": 8, "clip.vision.feed_forward_length": 8,
            "clip.vision.projection_dim": 32, "clip.vision.patch_size": 2, "clip.vision.attention.head_count": 1,
            "clip.vision.image_mean": [0.5, 0.5, 0.5], "clip.vision.image_std": [0.5, 0.5, 0.5], "clip.vision.n_wa_pattern": 1,
        }.items():
            mmproj.key(key, value)
        for end in ("", ".1"):
            mmproj.tensor("v.patch_embd.weight" + end, 1, [8, 3, 2, 2], 192)
        for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_gate", "ffn_up", "ffn_down"):
            mmproj.tensor(f"v.blk.0.{part}.weight", 1, [8, 8], 128)
            mmproj.tensor(f"v.blk.0.{part}.bias", 0, [8], 32)
        for part in ("v.blk.0.ln1", "v.blk.0.ln2", "v.post_ln"):
            mmproj.tensor(part + ".weight", 0, [8], 32)
        for part in ("mm.0", "mm.2"):
            mmproj.tensor(part + ".weight", kind, [32, 32], 32 * size)
            mmproj.tensor(part + ".bias", 0, [32], 128)
        first = model.done()
        put("gguf", name, struct.pack("<I", len(first)) + first + mmproj.done())


def configs():
    flat = json.loads((ROOT / "models/fovea-demo/config.json").read_text())
    text_fields = ["hidden_act", "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
                   "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "vocab_size"]
    nested = {k: v for k, v in flat.items() if k not in text_fields + ["rope_theta", "rope_scaling", "torch_dtype"]}
    nested["text_config"] = {k: flat[k] for k in text_fields} | {
        "model_type": "qwen2_5_vl_text", "layer_types": ["full_attention"] * 3, "rope_theta": 1e6,
        "rope_scaling": flat["rope_scaling"] | {"rope_type": "default"}, "tie_word_embeddings": True}
    newest = copy.deepcopy(nested)
    newest["dtype"] = "bfloat16"
    text = newest["text_config"]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": text.pop("rope_theta"),
                               "mrope_section": text.pop("rope_scaling")["mrope_section"]}
    yarn = copy.deepcopy(flat)
    yarn["rope_scaling"] |= {"type": "yarn", "factor": 4, "original_max_position_embeddings": 8192}
    for name, config in (("flat", flat), ("nested", nested), ("newest", newest), ("yarn", yarn)):
        put("config", name, config)
    put("quantization_config", "awq", {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True})
    put("quantization_config", "gptq", {"quant_method": "gptq", "bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2",
                                        "desc_act": True, "sym": False})
    put("quantization_config", "fovea", {"quant_method": "fovea", "version": 1})
    put("quantization_config", "bitsandbytes", {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    put("generation_config", "sampling", {"do_sample": True, "temperature": 1e-6, "top_k": 1, "top_p": 0.001, "repetition_penalty": 1.05,
                                          "eos_token_id": [799, 797], "max_new_tokens": 64, "transformers_version": "4.57.6"})
    put("generation_config", "others", {"no_repeat_ngram_size": 3, "stop_strings": ["</a>"], "num_beams": 1, "eos_token_id": 7})
    processor = json.loads((ROOT / "models/fovea-demo/preprocessor_config.json").read_text())
    put("preprocessor_config", "old", processor)
    size = {"shortest_edge": 3136, "longest_edge": 50176}
    image = {k: v for k, v in processor.items() if k not in ("min_pixels", "max_pixels")} | {"size": size, "do_resize": True}
    put("preprocessor_config", "sizes", image | {"image_processor_type": "Qwen2VLImageProcessorFast", "resample": 3, "do_rescale": True})
    video = image | {"video_processor_type": "Qwen2VLVideoProcessor"}
    nested = {"processor_class": "Qwen2_5_VLProcessor", "image_processor": image, "video_processor": video}
    put("preprocessor_config", "nested", nested)
    put("preprocessor_config", "newest_alone", BETWEEN + json.dumps(nested))
    put("preprocessor_config", "beside_a_newer", json.dumps(processor) + BETWEEN + json.dumps(nested))
    put("preprocessor_config", "with_video", BETWEEN.join([json.dumps(processor), "", json.dumps(video)]))


def small_tokenizer():
    alphabet = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters = alphabet + [chr(256 + i) for i in range(256 - len(alphabet))]
    vocabulary = {letter: i for i, letter in enumerate(letters)} | {"ab": 256, "abc": 257, "\u0120a": 258}
    added = [{"id": 259, "content": "<s>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": True},
             {"id": 260, "content": "<|im_end|>", "single_word": False, "lstrip": False, "rstrip": True, "normalized": True, "special": False}]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+| ?[^\s\p{L}]+|\s+(?!\S)|\s+"}, "behavior": "Isolated", "invert": False}
    return vocabulary, added, {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}, "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary,
                  "merges": ["a b", ["ab", "c"], "\u0120 a"]}}


def texts():
    vocabulary, added, tokenizer = small_tokenizer()
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added}
    decoder["261"] = {"content": "<x>", "special": True}
    config = {"added_tokens_decoder": decoder, "eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"}
    put("tokenizer_json", "alone", tokenizer)
    put("tokenizer_json", "with_config", json.dumps(tokenizer) + BETWEEN + json.dumps(config))
    template = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}}
    put("tokenizer_json", "template_processing", tokenizer | {"post_processor": template})
    merges = "#version: 0.2\na b\nab c\n\u0120 a\n"
    put("vocab_merges", "decoder", BETWEEN.join([json.dumps(vocabulary), merges, json.dumps(config)]))
    put("vocab_merges", "added", BETWEEN.join([json.dumps(vocabulary), merges, json.dumps({"eos_token": {"content": "<s>"}}),
                                              json.dumps({"<s>": 259})]))
    put("text", "words", "Hello, it's 42 caf\u00e9s: \u65e5\u672c\u8a9e e\u0301\n\n  <|im_start|>user\n<|image_pad|>\t")
    put("text", "broken_utf8", b"a\xff\xc3(\xe2\x82 \xf0\x9f\x98\x80\xed\xa0\x80")
    jinja = (ROOT / "models/qwen-tokenizer/chat_template.jinja").read_text()
    put("chat_template", "jinja", "\x00" + jinja)
    put("chat_template", "json", "\x01" + json.dumps({"chat_template": jinja}))
    put("chat_template", "named", "\x02" + json.dumps({"chat_template": [{"name": "default", "template": jinja}]}))
    put("prompt", "in_order", "<image> and <image>, then <video>: compare.")
    put("prompt", "one", "What is <image>?")


def messages():
    picture = {"type": "image", "image": "a.jpg", "min_pixels": 3136, "max_pixels": 50176}
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"}}
    frames = {"type": "video", "video": ["1.png", "2.png"], "fps": 1.5}
    talk = [{"role": "system", "content": "You answer."},
            {"role": "user", "content": [picture, {"type": "text", "text": "What is this?"}]},
            {"role": "assistant", "content": "A cat."}, {"role": "user", "content": [url, frames, {"text": "And now?"}]}]
    put("messages", "conversation", talk)
    put("messages", "plain", [{"role": "user", "content": [picture, frames, {"type": "text", "text": "What is this?"}]}])
    put("messages", "wrapped", {"messages": [{"role": "user", "content": [{"type": "video", "video": "a.mp4", "fps": 2, "resized_height": 280,
                                                                          "resized_width": 420, "nframes": 4, "total_pixels": 100352}]}]})
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{\"where\": \"left\"}"}}
    put("messages", "tools", [{"role": "user", "content": "Look."}, {"role": "assistant", "content": None, "tool_calls": [call]},
                              {"role": "tool", "tool_call_id": "1", "content": "a tree"}])
    records = [{"id": "q1", "messages": talk[1:2], "answer": "7"}, {"id": 2, "messages": [{"role": "user", "content": "2 + 5?"}],
                "answer": ["7", "seven"], "match": "number", "tags": {"kind": "sum"}},
               {"id": "q3", "messages": [{"role": "user", "content": "A or B?"}], "answer": "B", "match": "choice", "tags": ["letters"]}]
    put("suite", "three", "\ufeff" + "\n".join(json.dumps(r) for r in records) + "\n\n")
    put("suite", "damaged", '{"id": "a"}\n{"id": 1, "messages": []\n' + json.dumps(records[1]))
    for rule, expected, answer in (("number", "1234.5", "It is 1,234.50, or 1.2345e3."), ("choice", "B", "(b) I think"),
                                   ("normalized", "caf\u00e9", " \u201cCafe\u0301.\u201d "), ("substring", "red", "A Red square"),
                                   ("exact", "x", "x")):
        put("scoring", rule, BETWEEN.join([rule, expected, answer]))


def requests():
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
    messages = [{"role": "system", "content": "You answer."}, {"role": "user", "content": [url, {"type": "text", "text": "What is this?"}]}]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    full = {"model": "m", "messages": messages, "max_tokens": 7, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": -1,
            "repetition_penalty": 1.05, "seed": -1, "stop": ["a", "b"], "ignore_eos": False, "n": 2, "logprobs": True, "top_logprobs": 3,
            "stream": True, "stream_options": {"include_usage": True}, "tools": [tool], "tool_choice": "auto", "user": "u", "cache_salt": "s",
            "response_format": {"type": "text"}, "presence_penalty": 0.5, "frequency_penalty": -1, "min_p": 0.1, "logit_bias": {"7": -100}, "reasoning_effort": "low", "unheard_of": [1, {"a": None}]}
    put("chat_request", "full", full)
    put("chat_request", "plain", {"messages": [{"role": "user", "content": "Hi"}], "stop": "x", "max_tokens": None})
    put("chat_request", "file", {"messages": [{"role": "user", "content": [{"type": "video", "video": ["1.png", "file:///2%20.png"]}]}]})
    put("chat_request", "refused", {"messages": messages, "response_format": {"type": "xml"}})
    schema = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {}}, "required": ["z"]}
    put("chat_request", "schema", {"messages": messages, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}})
    put("chat_request", "tool", {"messages": messages, "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}}})
    put("completion_request", "text", {"prompt": "Once", "max_tokens": 4, "logprobs": 2, "n": 2, "temperature": 0, "logit_bias": {"5": 1}})
    put("completion_request", "ids", {"prompt": [[1, 2], [3], "x"], "echo": False, "best_of": 1, "stream": True})
    put("completion_request", "tokenize", {"messages": messages, "add_special_tokens": True, "return_token_strs": True})
    put("completion_request", "detokenize", {"tokens": [0, 5, 151643]})
    put("media_address", "plain", "https://pictures.example/a/b.png?size=1#top")
    put("media_address", "port", "HTTPS://A-b.example.:8443")
    put("media_address", "user", "https://user:pass@a.example/")
    put("media_address", "literal", "https://[::1]/a.png")
    body = {"messages": messages, "max_tokens": 5}
    lines = [{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}, {"id": "b", "messages": messages[:1]},
             {"custom_id": "a", "method": "GET", "url": "/v1/embeddings", "body": {}}]
    text = "\n".join(json.dumps(line) for line in lines)
    answer = {"id": "batch_req_0", "custom_id": "a", "response": {"status_code": 400, "request_id": "r", "body": {}}, "error": None}
    failed = json.dumps(answer)
    put("batch_file", "lines", "\ufeff" + text + "\n\n{\n")
    put("batch_file", "resumed", text + BETWEEN + failed + "\n" + failed[:40])
    # The id is the hash of the line (api/batch_input.cc).
    line = json.dumps(lines[0])
    answer["id"] = "batch_req_%016x" % fnv1a(line.encode(), fnv1a(b"0"))
    answer["response"]["status_code"] = 200
    put("batch_file", "answered", line + BETWEEN + json.dumps(answer) + "\n")
    put("batch_file", "foreign", text + BETWEEN + '{"custom_id": "c"}\n')


def schemas():
    node = {"type": "object", "properties": {"v": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 20}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}]}},
            "required": ["v"], "additionalProperties": False}
    tagged = [{"type": "object", "properties": {"kind": {"const": kind}, "x": {"type": ["integer", "null"]}}, "required": ["kind"]} for kind in ("a", "b")]
    for name, schema in (("tree", {"$ref": "#/$defs/n", "$defs": {"n": node}}), ("tagged", {"oneOf": tagged}), ("all", {"allOf": [node, {"properties": {"w": {}}}], "$defs": {"n": node}}),
                         ("strings", {"items": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 9}, {"pattern": "^(a|b[^c-e]{2,3})*\\d?$"}, {"format": "date-time"}]}, "maxItems": 3}),
                         ("values", {"enum": ["a", 1, None, {"b": [2.5]}]}), ("tuple", {"prefixItems": [{"type": "boolean"}, {"const": "x"}], "items": False, "minItems": 1}),
                         ("open", {"type": "object", "properties": {"name": {}}, "additionalProperties": {"type": "integer", "minimum": 3}}), ("refused", {"not": {}})):
        put("json_schema", name, schema)
    call = '<tool_call>\n{"name": "f", "arguments": {"x": "a}]\\""}}\n</tool_call>'
    put("tool_calls", "calls", "Let me look.\n" + call + "\n" + call)
    put("tool_calls", "others", 'a <tool_ <tool_call>{"arguments": {}, "name": "g"}</tool_call> <tool_call>no</tool_call> <tool_call>{"name": "f", "argu')


def fnv1a(text, value=0xCBF29CE484222325):
    for byte in text:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def settings():
    for name, policy in (("preset", "preset=eager-bf16, text.scores=fp32"), ("layers", "dtype=bf16,text.layers.0-3.k=fp32,vision.layers.-1.attention=sdpa"),
                         ("logits", "logits=fp32"), ("json", '{"preset": "eager-bf16", "text": {"scores": "fp32", "layers": {"0-3": {"k": "fp32"}}}}')):
        put("policy", name, policy)
    put("device_map", "ranges", "vision=0, text.0-2=0\ntext.3-4=1 # the rest\nhead=1")
    put("device_map", "json", {"model.visual": 0, "model.language_model.embed_tokens": 0, "text": 1, "lm_head": 2, "model.language_model.norm": 2})
    layer = {"tower": "text", "layer": 0, "attention": [[0.1, 2.0], [0.0, 1.0]], "hidden": [[0.5, 4.0], [0.25, 2.0]],
             "heads": [[4, 1, 0, 12.5, 4, 0.01, 0.5, None], [4, 0, 0, 3.5, 4, 0.02, 0.25, 0.5]]}
    result = {"answer": "7", "correct": True, "problem": "", "tokens": 2, "first_divergence": None, "kl": [0.0, 0.125], "agreed": 2,
              "seconds": 0.5, "layers": [layer, layer | {"layer": 1}, layer | {"tower": "vision"}]}
    state = {"format": "fovea-audit-state", "version": 2, "fingerprint": {"model": "tiny", "questions": 2},
             "results": {"fp32": {"q1": result}, "eager-bf16": {"q1": result | {"first_divergence": 1, "correct": False, "layers": []}}},
             "facts": {"q1": {"context": 100, "images": 1, "largest_patches": 64, "warnings": ["a picture was shrunk"]}},
             "problems": {"q2": {"file": "s.jsonl", "line": 2, "id": "q2", "message": "no picture", "remedy": "give one"}}}
    put("audit_state", "two_configurations", state)
    limits = {"read_gbps": 40, "bf16_gflops": 470, "fp32_gflops": 234.5, "int8_gops": 940, "when": "2026-12-01 05:40 UTC", "load": 0.25}
    put("machine_cache", "two_machines", {"version": 2, "machines": {"mine": limits, "theirs": limits | {"load": 8}}})
    put("machine_cache", "absurd", {"version": 2, "machines": {"mine": limits | {"read_gbps": 1e300}}})
    put("machine_cache", "older", {"mine": {"read_gbps": 40}})
    audit = json.loads((ROOT / "tests/data/audit/sample.json").read_text())
    small = copy.deepcopy(audit)
    small["configurations"] = [shortened(c) for c in audit["configurations"][:2]]
    small["attribution"] = audit["attribution"][:2]
    put("report", "two_configurations", shortened(small))
    put("report", "little", {k: audit[k] for k in ("format", "version", "complete", "model", "suite", "reference", "conclusion")})


def shortened(value):
    """At most two entries of every list."""
    if isinstance(value, dict):
        return {k: shortened(v) for k, v in value.items()}
    return [shortened(v) for v in value[:2]] if isinstance(value, list) else value


for folder in (HERE / "corpus").glob("*"):
    for file in folder.iterdir():
        if not file.name.startswith(("reaches-", "crash-")):
            file.unlink()
for write in (pictures, weights, gguf_models, lora_adapters, configs, texts, messages, requests, schemas, settings):
    write()
