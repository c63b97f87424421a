"""What the golden cases are: shapes of the tiny checkpoints, conversations, synthetic pictures and the tokenizer.

Imported by make_goldens.py; holds no computation of the model.
"""
import dataclasses
import json
import pathlib

import numpy as np
from PIL import Image

# The added tokens of Qwen2.5-VL in the order of their ids (151643 .. 151664 in the released checkpoints); the tiny
# vocabulary puts them right after its own base tokens.
ADDED_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]
FIRST_NOT_SPECIAL = ADDED_TOKENS.index("<tool_call>")
BASE_TOKENS = 356
VOCAB_SIZE = 384  # padded past the last token (377), as the released checkpoints are
# The pre-tokenizer pattern of the Qwen2 family.
SPLIT_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                 r"|\s*[\r\n]+|\s+(?!\S)|\s+")

# Our own text; the merges of the tiny tokenizer are learnt from it.
TRAINING_TEXT = """You are a helpful assistant.
You are a careful reader of pictures, system user assistant.
What is in the picture? The picture shows a red square and a blue bar in front of a green field.
How many squares are in the second picture? There are three squares in the picture on the left.
Compare the pictures and describe the difference between the first and the last image.
Describe the video in one sentence. The bar moves from the left to the right of the image.
Read the number: 0123456789, 3.14 and 42. Answer in one word, then explain the answer in detail.
Was ist auf dem Bild zu sehen? Ein Quadrat, daneben ein Balken. Que montre cette image ? Un carré rouge.
"""


@dataclasses.dataclass
class Text:
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    intermediate: int
    sections: list
    tied: bool
    theta: float = 1e6
    eps: float = 1e-6
    # Norms of the K and Q bias of every head; None: small random biases.
    key_bias_norm: list | None = None

    @property
    def hidden(self):
        return self.heads * self.head_dim


@dataclasses.dataclass
class Vision:
    heads: int
    head_dim: int
    intermediate: int
    depth: int
    full: list
    tokens_per_second: int = 2
    window: int = 112

    @property
    def hidden(self):
        return self.heads * self.head_dim


@dataclasses.dataclass
class Picture:
    """A synthetic image of height x width pixels."""
    height: int
    width: int
    mode: str = "RGB"

    @staticmethod
    def merged(h, w):  # the size whose merged grid is h x w, so that nothing is resized
        return Picture(28 * h, 28 * w)


@dataclasses.dataclass
class Video:
    frames: int
    height: int
    width: int
    fps: float

    @staticmethod
    def merged(frames, h, w, fps):
        return Video(frames, 28 * h, 28 * w, fps)


@dataclasses.dataclass
class Case:
    name: str
    about: str
    layout: str  # config.json: "flat" | "nested" (text_config, rope_scaling) | "nested_rope_parameters"
    names: str  # tensor names: "old" (visual.*, model.*) | "new" (model.visual.*, model.language_model.*)
    text: Text
    vision: Vision
    messages: list  # [role, parts]; a part is a str, a Picture or a Video
    shards: int = 1
    storage: str = "bfloat16"
    tokenizer_form: str = "tokenizer.json"  # or "vocab.json"
    template_form: str = "chat_template.json"  # or "chat_template.jinja" or "tokenizer_config.json"
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 16384
    attempt: int = 0  # the first weights tried; the smaller ones were found too nearly tied or too repetitive
    seed: int = 1  # set to the case's number


def sections(head_dim):
    """mrope_section in the proportions of the released checkpoints ([16, 24, 24] at head_dim 128)."""
    return [head_dim // 8, head_dim * 3 // 16, head_dim * 3 // 16]


def all_cases():
    image, video = Picture.merged, Video.merged
    return [
        Case("one_image", "flat config, old names, tied head, GQA 1, head_dim 64, one image 6x7, full blocks 1 and 3",
             "flat", "old", Text(2, 2, 64, 3, 92, sections(64), True), Vision(2, 16, 42, 4, [1, 3]),
             [("user", [image(6, 7), "What is in the picture?"])], attempt=24),
        Case("two_images", "flat config, old names, two shards, untied head, GQA 2, head_dim 128, no full block, "
             "images 4x5 and 9x8, text between them", "flat", "old",
             Text(2, 1, 128, 1, 90, sections(128), False), Vision(2, 20, 54, 4, []),
             [("system", "You are a careful reader of pictures."),
              ("user", [image(4, 5), " and ", image(9, 8), "Compare the pictures."])],
             shards=2, template_form="tokenizer_config.json", attempt=46),
        Case("three_images", "nested config, new names, tied head, GQA 7, head_dim 64, every block full, "
             "images 5x5, 3x6, 2x4", "nested", "new", Text(7, 1, 64, 1, 58, sections(64), True),
             Vision(2, 12, 70, 4, [0, 1, 2, 3]),
             [("user", [image(5, 5), image(3, 6), image(2, 4), "How many squares are there?"])], attempt=5),
        Case("five_images", "nested config with rope_parameters, new names, tied head, GQA 8, head_dim 32, full block "
             "0, images 4x4, 4x6, 5x3, 3x4, 2x5", "nested_rope_parameters", "new",
             Text(8, 1, 32, 2, 42, sections(32), True, theta=5e5), Vision(1, 32, 86, 4, [0]),
             [("user", ["1:", image(4, 4), "2:", image(4, 6), "3:", image(5, 3), "4:", image(3, 4), "5:", image(2, 5),
                        "Describe the difference."])], template_form="chat_template.jinja", attempt=10),
        Case("two_videos", "flat config, old names, tied head, 4 heads over 2, head_dim 32, five vision blocks with full "
             "block 2; videos of 5 frames 6x6 at 4 fps (0.5 s per grid, odd frame count) and 4 frames 3x3 at 2 fps",
             "flat", "old", Text(4, 2, 32, 2, 76, sections(32), True, eps=1e-5), Vision(1, 32, 42, 5, [2]),
             [("user", [video(5, 6, 6, 4.0), video(4, 3, 3, 2.0), "Describe the video."])], shards=3, attempt=8),
        Case("video_and_images", "nested config with rope_parameters, new names, untied head, GQA 2, tokens_per_second 4, "
             "full blocks 0 and 2; image 7x7, 10 frames 3x2 at 5 fps (0.4 s per grid), images 4x7 and 1x6",
             "nested_rope_parameters", "new", Text(2, 1, 64, 2, 108, sections(64), False),
             Vision(2, 24, 70, 4, [0, 2], tokens_per_second=4),
             [("user", [image(7, 7), "then", video(10, 3, 2, 5.0), image(4, 7), image(1, 6), "Answer in one word."])],
             template_form="chat_template.jinja", attempt=105),
        Case("text_only", "flat config, old names, fp16 storage, vocab.json and merges.txt, tied head, one head of 128",
             "flat", "old", Text(1, 1, 128, 2, 100, sections(128), True, theta=1e4), Vision(1, 16, 36, 4, [3]),
             [("user", "Read the number 42, then explain the answer: un carré rouge, ein Balken.")],
             storage="float16", tokenizer_form="vocab.json", attempt=7),
        Case("conversation", "nested config, new names, untied head, one head of 128, K biases of norm 20 to 60 "
             "aligned with Q biases (raw scores near 1000, as in the released models), vision head_dim 80, full block 3; "
             "five turns with images 5x6, 4x3, 3x5", "nested", "new",
             Text(1, 1, 128, 3, 84, sections(128), False, key_bias_norm=[60, 20, 45]), Vision(1, 80, 54, 4, [3]),
             [("system", "You are a helpful assistant."),
              ("user", [image(5, 6), "What is in the picture?"]),
              ("assistant", "A red square and a blue bar."),
              ("user", [image(4, 3), "And here?", image(3, 5)]),
              ("assistant", [dict(type="text", text="Three squares.")]),
              ("user", "Compare them.")], attempt=9),
        Case("resized_images", "flat config, old names, fp32 storage, tied head, windows of 84 pixels; images of 200x131, "
             "30x75 (enlarged), 500x340 (reduced), grey 126x98 (half-to-even: 112x112) and palette 90x150",
             "flat", "old", Text(2, 2, 64, 1, 68, sections(64), True), Vision(1, 20, 52, 4, [1, 2], window=84),
             [("user", [Picture(200, 131), Picture(30, 75), Picture(500, 340), Picture(126, 98, "L"),
                        Picture(90, 150, "P"), "Describe."])],
             storage="float32", min_pixels=56 * 56, max_pixels=28 * 28 * 30, attempt=5),
    ]


def draw(picture, generator, shift=0):
    """A soft gradient with rectangles and blocky noise: detail at every scale, yet a PNG of a few KB."""
    h, w = picture.height, picture.width
    y, x = np.mgrid[0:h, 0:w]
    phase = generator.uniform(0, 6.28, 3)
    canvas = np.stack([128 + 100 * np.sin(x / (17 + 9 * c) + y / (31 - 6 * c) + phase[c]) for c in range(3)], -1)
    canvas = canvas // 16 * 16
    for _ in range(4):
        top, left = int(generator.integers(0, max(1, h - 12))), int(generator.integers(0, max(1, w - 12)))
        canvas[top:top + h // 3, left + shift:left + shift + w // 4] = generator.integers(0, 256, 3)
    noise = generator.integers(-3, 4, ((h + 6) // 7, (w + 6) // 7, 3)) * 8
    canvas = canvas + np.repeat(np.repeat(noise, 7, 0), 7, 1)[:h, :w]
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    if picture.mode == "P":
        return image.quantize(32, dither=Image.Dither.NONE)
    return image.convert(picture.mode)


def draw_video(video, seed):
    """Frames of one scene whose rectangles move to the right."""
    frame = Picture(video.height, video.width)
    return [draw(frame, np.random.default_rng(seed), shift=3 * i) for i in range(video.frames)]


def write_inputs(case, folder):
    """Writes the pictures and messages.json; returns the messages with file names relative to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    messages, count = [], 0
    for role, parts in case.messages:
        if isinstance(parts, str):
            messages.append(dict(role=role, content=parts))
            continue
        content = []
        for part in parts:
            if isinstance(part, str):
                content.append(dict(type="text", text=part))
            elif isinstance(part, Picture):
                name = f"image{count}.png"
                draw(part, np.random.default_rng(1000 * case.seed + count)).save(folder / name, optimize=True)
                content.append(dict(type="image", image=name))
            elif isinstance(part, Video):
                names = [f"video{count}_{i}.png" for i in range(part.frames)]
                for name, frame in zip(names, draw_video(part, 1000 * case.seed + count)):
                    frame.save(folder / name, optimize=True)
                # Stated, because qwen_vl_utils enlarges the frames of a video to 128 tokens unless it is told not to.
                content.append(dict(type="video", video=names, fps=part.fps, min_pixels=case.min_pixels))
            else:
                content.append(part)
            count += not isinstance(part, (str, dict))
        messages.append(dict(role=role, content=content))
    (folder / "messages.json").write_text(json.dumps(messages, indent=1, ensure_ascii=False) + "\n")
    return messages


def token_ids():
    return {text: BASE_TOKENS + i for i, text in enumerate(ADDED_TOKENS)}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def trained_tokenizer():
    """A byte-level BPE of the Qwen kind: the 256 bytes, merges learnt from our text, the added tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    tokenizer = Tokenizer(models.BPE(fuse_unk=False, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=BASE_TOKENS, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(TRAINING_TEXT.splitlines(), trainer)
    assert tokenizer.get_vocab_size() == BASE_TOKENS
    for i, text in enumerate(ADDED_TOKENS):
        token = AddedToken(text, special=i < FIRST_NOT_SPECIAL, normalized=False)
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    assert tokenizer.token_to_id("<|file_sep|>") == token_ids()["<|file_sep|>"]
    return tokenizer


def write_tokenizer(case, folder, tokenizer, template):
    decoder = {str(i): dict(content=text, lstrip=False, normalized=False, rstrip=False, single_word=False,
                            special=k < FIRST_NOT_SPECIAL)
               for k, (text, i) in enumerate(token_ids().items())}
    config = dict(add_bos_token=False, add_prefix_space=False, added_tokens_decoder=decoder,
                  additional_special_tokens=ADDED_TOKENS[1:FIRST_NOT_SPECIAL], bos_token=None,
                  clean_up_tokenization_spaces=False, eos_token="<|im_end|>", errors="replace", model_max_length=131072,
                  pad_token="<|endoftext|>", split_special_tokens=False, tokenizer_class="Qwen2Tokenizer", unk_token=None)
    if case.template_form == "tokenizer_config.json":
        config["chat_template"] = template
    elif case.template_form == "chat_template.json":
        write_json(folder / "chat_template.json", dict(chat_template=template))
    else:
        (folder / "chat_template.jinja").write_text(template)
    write_json(folder / "tokenizer_config.json", config)
    if case.tokenizer_form == "tokenizer.json":
        (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False) + "\n")
        return
    model = json.loads(tokenizer.to_str())["model"]
    write_json(folder / "vocab.json", model["vocab"])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def text_fields(case):
    text = case.text
    return dict(attention_dropout=0.0, hidden_act="silu", hidden_size=text.hidden, initializer_range=0.02,
                intermediate_size=text.intermediate, max_position_embeddings=4096, max_window_layers=text.layers,
                num_attention_heads=text.heads, num_hidden_layers=text.layers, num_key_value_heads=text.kv_heads,
                rms_norm_eps=text.eps, sliding_window=2048, use_cache=True, use_sliding_window=False,
                vocab_size=VOCAB_SIZE)


def vision_fields(case, model_type):
    vision = case.vision
    return dict(depth=vision.depth, fullatt_block_indexes=vision.full, hidden_act="silu", hidden_size=vision.hidden,
                in_channels=3, intermediate_size=vision.intermediate, model_type=model_type, num_heads=vision.heads,
                out_hidden_size=case.text.hidden, patch_size=14, spatial_merge_size=2, spatial_patch_size=14,
                temporal_patch_size=2, tokens_per_second=vision.tokens_per_second, window_size=vision.window)


def config_json(case, layout=None):
    """config.json in the layout of its era: the release's (flat), transformers 4.52-4.57's, 5.x's."""
    ids, text = token_ids(), case.text
    top = dict(architectures=["Qwen2_5_VLForConditionalGeneration"], model_type="qwen2_5_vl",
               image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
               vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"])
    ends = dict(bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|im_end|>"])
    layout = layout or case.layout
    if layout == "flat":
        return top | ends | text_fields(case) | dict(
            rope_scaling=dict(mrope_section=text.sections, type="mrope"), rope_theta=text.theta,
            tie_word_embeddings=text.tied, torch_dtype=case.storage, transformers_version="4.49.0",
            vision_token_id=ids["<|vision_pad|>"], vision_config=vision_fields(case, "qwen2_5_vl"))
    inner = text_fields(case) | ends | dict(dtype=case.storage, model_type="qwen2_5_vl_text", sliding_window=None,
                                            layer_types=["full_attention"] * text.layers)
    if layout == "nested":
        inner |= dict(rope_scaling=dict(mrope_section=text.sections, rope_type="default", type="default"),
                      rope_theta=text.theta, tie_word_embeddings=text.tied)
        return top | dict(dtype=case.storage, text_config=inner, vision_config=vision_fields(case, "qwen2_5_vl"),
                          tie_word_embeddings=text.tied, transformers_version="4.57.6")
    inner |= dict(rope_parameters=dict(mrope_section=text.sections, rope_theta=text.theta, rope_type="default"))
    return top | dict(dtype=case.storage, text_config=inner, 
                      vision_config=vision_fields(case, "qwen2_5_vl_vision") | dict(
                          rope_parameters=dict(rope_theta=10000.0, rope_type="axial")),
                      tie_word_embeddings=text.tied, transformers_version="5.23.0")


def write_configs(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    ids = token_ids()
    write_json(folder / "config.json", config_json(case))
    write_json(folder / "generation_config.json", dict(
        bos_token_id=ids["<|endoftext|>"], do_sample=True, eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"], repetition_penalty=1.05, temperature=0.1, top_k=1, top_p=0.001,
        transformers_version="4.49.0"))
    write_json(folder / "preprocessor_config.json", dict(
        image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711],
        image_processor_type="Qwen2VLImageProcessor", max_pixels=case.max_pixels, merge_size=2,
        min_pixels=case.min_pixels, patch_size=14, processor_class="Qwen2_5_VLProcessor", temporal_patch_size=2))
