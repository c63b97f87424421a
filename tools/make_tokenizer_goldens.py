#!/usr/bin/env python3
"""Writes the tokenizer goldens: generated lines, their ids, and decodings, as Hugging Face tokenizers gives them.

  python3 tools/make_tokenizer_goldens.py        (needs `pip install tokenizers==0.22.2`; seeded, always the same file)

Every line is generated here; nothing is taken from elsewhere. Output: tests/data/tokenizer/goldens.bin.xz, whose
layout is in write_goldens() and tokenizer_golden_test.cc.
"""
import lzma
import random
import struct
from pathlib import Path

import tokenizers

ROOT = Path(__file__).resolve().parent.parent
SEED = 20250131
SPACES = [chr(c) for c in (0x09, 0x0B, 0x0C, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
                           0x205F, 0x3000)]
NEAR_SPACES = ["\u180e", "\u200b", "\u200c", "\u2060", "\ufeff", "\x1c", "\x1f", "\x00"]
NEWLINES = ["\n", "\r", "\r\n", "\n\n", "\n\r", "\r\r\n", "\n \n", " \n", "\n ", "\t\n"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "'\u017f",
                "\u2019s", "'x", "''s", "'\u212a", "'l", "'r", "'v", "`s"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
            "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
            "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
            "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
SCRIPTS = {  # first and last code point of letters and marks in daily use
    "latin": (0x61, 0x7A), "latin1": (0xC0, 0xFF), "latin_a": (0x100, 0x17F), "latin_b": (0x180, 0x24F),
    "vietnamese": (0x1EA0, 0x1EF9), "ipa": (0x250, 0x2AF), "greek": (0x386, 0x3CE), "greek_ext": (0x1F00, 0x1FFE),
    "cyrillic": (0x400, 0x45F), "armenian": (0x531, 0x58F), "hebrew": (0x591, 0x5EA), "arabic": (0x610, 0x66F),
    "syriac": (0x710, 0x74A), "thaana": (0x780, 0x7B1), "nko": (0x7C0, 0x7FD), "devanagari": (0x901, 0x96F),
    "bengali": (0x981, 0x9EF), "gurmukhi": (0xA01, 0xA75), "gujarati": (0xA81, 0xAEF), "oriya": (0xB01, 0xB6F),
    "tamil": (0xB82, 0xBF2), "telugu": (0xC01, 0xC6F), "kannada": (0xC82, 0xCEF), "malayalam": (0xD02, 0xD6F),
    "sinhala": (0xD82, 0xDF3), "thai": (0xE01, 0xE5B), "lao": (0xE81, 0xEDF), "tibetan": (0xF00, 0xFBC),
    "myanmar": (0x1000, 0x109D), "georgian": (0x10A0, 0x10FF), "jamo": (0x1100, 0x11FF), "ethiopic": (0x1200, 0x137C),
    "cherokee": (0x13A0, 0x13FD), "ogham": (0x1680, 0x169C), "runic": (0x16A0, 0x16F8), "khmer": (0x1780, 0x17F9),
    "mongolian": (0x1800, 0x18AA), "hiragana": (0x3041, 0x309F), "katakana": (0x30A0, 0x30FF),
    "bopomofo": (0x3105, 0x312F), "han": (0x4E00, 0x5FFF), "han_more": (0x6000, 0x9FA5), "hangul": (0xAC00, 0xD7A3),
    "yi": (0xA000, 0xA48C), "compat_han": (0xF900, 0xFAD9), "halfwidth": (0xFF01, 0xFFEE), "gothic": (0x10330, 0x1034A),
    "math": (0x1D400, 0x1D7FF), "han_b": (0x20000, 0x20400), "deseret": (0x10400, 0x1044F), "cuneiform": (0x12000, 0x12399),
    "kawi": (0x11F00, 0x11F59), "garay": (0x10D40, 0x10D85), "han_h": (0x31350, 0x323AF), "future": (0x323B0, 0x32400)}
WORDS = """the of and a in is it you that was for on are with as his they be at one have this from or had by hot word
but what some we can out other were all there when up use your how said an each she which do their time if will way
about many then them write would like so these her long make thing see him two has look more day could go come did
image describe picture what colour how many people table chart total street sign bottle invoice Model Attention
Das ist ein Bild und der Hund läuft über die Straße größer schön Mädchen le chat est sur la table où été garçon
el niño está aquí mañana corazón não coração você amanhã il gatto è più perché città het meisje en de jongen
där är något åäö æble øl blå på både być może świat źródło żółć ještě příliš žluťoučký kůň úpěl egészségére
árvíztűrő şeker ığdır çok güzel İstanbul мир привет как дела Россия язык это не был они Україна їжак ґанок
Γειά σου κόσμε ἄνθρωπος שלום עולם مرحبا بالعالم كيف حالك سلام दुनिया नमस्ते है আমি বাংলা தமிழ் வணக்கம் สวัสดี ชาวโลก
你好 世界 中文 图片 描述 这张 多少 人 天气 今天 謝謝 臺灣 日本語 こんにちは 世界 ありがとう カタカナ テスト 한국어 안녕하세요 세계 사진
xin chào thế giới Việt Nam tiếng được không saya suka makan jambo dunia ნახვამდის გამარჯობა բարեւ ሰላም""".split()
CODE = """int main(void) { return 0; }|for (int i = 0; i < n; ++i) {|    x[i] += y[i] * 0.5f;|def f(self, x: int) -> str:
        return f"{x!r}"|if __name__ == "__main__":|SELECT * FROM users WHERE id = 42 AND name LIKE '%a%';|<div class="row">&nbsp;</div>
{"key": [1, 2.5, -3e-7, null, true]}|std::vector<std::pair<int,int>>|fn main() -> Result<(), Box<dyn Error>> {|#include <stdio.h>
public static void main(String[] args)|const x = async () => await fetch(`${url}/api?q=1&p=2`);|\\frac{\\alpha}{\\beta} \\leq \\sum_{i=0}^{n} x_i^2
$ git commit -m "fix: off-by-one" && git push --force|https://example.org/a/b.html?x=1&y=%20#frag|user.name+tag@example.com|0xDEADBEEF
\t\treturn nullptr;|// TODO(#12): don't|/* it's */|x=y==z!=w<=v>=u&&t||s^r~q|a->b.c::d<e>(f)[g]{h}|'''doc'''|r"\\d+\\.\\d*"|@decorator
C:\\Users\\me\\file.txt|/usr/lib/x86_64-linux-gnu/|--flag=value -n 10|key: |\n  - item|%d %5.2f %s\\n|&lt;&gt;&amp;|<!-- c -->|\\u00e9\\n\\t""".split("|")
EMOJI = [chr(c) for c in (*range(0x1F600, 0x1F650), *range(0x1F300, 0x1F360), *range(0x1F680, 0x1F6A0), 0x2764, 0x2705, 0x2B50,
                          0x1F9D1, 0x1F468, 0x1F469, 0x1F466, 0x1F467, 0x1F3F3, 0x1F3F4, 0x1F1E9, 0x1F1EA, 0x1F1EF, 0x1F1F5)]
SKINS = [chr(c) for c in range(0x1F3FB, 0x1F400)]
# Marks of several combining classes, characters with decompositions of every sort, and marks newer than Unicode 9.
MARKS = [chr(c) for c in (*range(0x300, 0x316), 0x316, 0x317, 0x323, 0x327, 0x328, 0x331, 0x334, 0x338, 0x345, 0x35C, 0x360,
                          0x5B0, 0x5BC, 0x5C1, 0x64B, 0x651, 0x653, 0x654, 0x655, 0x670, 0x93C, 0x94D, 0x9BE, 0x9D7, 0xDCA,
                          0xDCF, 0xDDF, 0xE38, 0xE48, 0xF71, 0xF72, 0xF74, 0x1037, 0x3099, 0x309A, 0x20D0, 0x20E3, 0xFE0F,
                          0x1DC0, 0x1D165, 0x1D16E, 0x7FD, 0x898, 0x8CA, 0x1ABF, 0x1DF6, 0x10F46, 0x11930, 0x1E130, 0x1E4EC)]
BASES = [*"aeiouAEIOUcCnNsSzZyYgGdDtTlLrRhH", *"=<>≤∈∃", *(chr(c) for c in (
    0xC5, 0x212B, 0x2126, 0x3A9, 0x1E9B, 0x1E69, 0x1EA5, 0x344, 0x340, 0x387, 0x1FEE, 0x958, 0x95D, 0x9DC, 0xFB1D, 0xFB2A,
    0x2ADC, 0x1D15E, 0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01, 0x1112, 0x1175, 0x11C2, 0x304B, 0x30CF, 0x915, 0x9C7, 0xB47,
    0xD46, 0xDD9, 0x1025, 0x1B05, 0x11935, 0x11938, 0xF900, 0xFA10, 0x2F800, 0x622, 0x627, 0x648, 0x5D0, 0x3B1, 0x3C9, 0x1F00))]
MALFORMED = [b"\x80", b"\xbf\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe2\x82", b"\xe2\x28\xa1", b"\xf0\x9f", b"\xf0\x9f\x98",
             b"\xf0\x28\x8c\xbc", b"\xed\xa0\x80", b"\xed\xb0\x80\xed\xa0", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff\xfe",
             b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x88\x80\x80\x80", b"\xef\xbb", b"\xef\xbf\xbd", b"\xfe",
             b"\xe4\xbd", b"\xe4\xbd\xe4\xbd\xa0", b"\xc3\xa9\xc3", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xf4\x8f\xbf\xbf"]


class Lines:
    """Each method makes one line of its kind."""

    def __init__(self, rng, vocabulary):
        self.rng, self.vocabulary = rng, vocabulary

    def some(self, items, low, high):
        return [self.rng.choice(items) for _ in range(self.rng.randint(low, high))]

    def space(self):
        return self.rng.choice([" "] * 12 + ["", "  ", "\n", "   ", "\t", ", ", ". ", "-", "/", "\u3000"])

    def script(self):
        first, last = self.rng.choice(list(SCRIPTS.values()))
        words = ("".join(chr(self.rng.randint(first, last)) for _ in range(self.rng.randint(1, 4))) for _ in range(self.rng.randint(1, 3)))
        return "".join(word + self.space() for word in words)

    def sentence(self):
        words = [self.rng.choice([str, str, str, str.upper, str.title])(word) for word in self.some(WORDS, 2, 9)]
        return "".join(word + self.space() for word in words).rstrip(" ") + self.rng.choice(["", ".", "?", "!", "...", "?!\n"])

    def contraction(self):
        return self.rng.choice([" ", ""]).join(
            self.rng.choice(WORDS) + self.rng.choice(CONTRACTIONS) + self.rng.choice(["", "", "x", " ", "9", "'", "\u0301"])
            for _ in range(self.rng.randint(1, 3)))

    def code(self):
        return self.rng.choice(["\n", "", " ", "\n    ", "\r\n\t"]).join(self.some(CODE, 1, 2))

    def emoji(self):
        parts = []
        for _ in range(self.rng.randint(1, 4)):
            emoji = self.rng.choice(EMOJI) + self.rng.choice(["", "", "\ufe0f", self.rng.choice(SKINS)])
            parts.append(emoji + self.rng.choice(["", "", " ", "\u200d", "\u200d\u2642\ufe0f", "\u20e3", "a"]))
        return "".join(parts)

    def marks(self):
        return "".join(self.rng.choice(BASES) + "".join(self.some(MARKS, 0, 4)) for _ in range(self.rng.randint(1, 4)))

    def number(self):
        forms = [lambda: str(self.rng.randrange(10 ** self.rng.randint(1, 12))), lambda: f"{self.rng.random():.6f}",
                 lambda: f"-{self.rng.random():.3e}", lambda: f"{self.rng.randrange(1 << 40):#x}", lambda: "1,234,567.89",
                 lambda: f"20{self.rng.randint(10, 40)}-0{self.rng.randint(1, 9)}-1{self.rng.randint(0, 9)}",
                 lambda: "".join(self.some("²³¹½¾ⅣⅫ①⑳٣٤۵६७๔๕０１９〇一二𝟘𝟙\U0001d2c0\U0001d360", 1, 4))]
        return self.rng.choice(["", " ", "$", "№", "a", "-"]).join(self.rng.choice(forms)() for _ in range(self.rng.randint(1, 3)))

    def white(self):
        runs = ("".join(self.some(self.rng.choice([[" "], [" ", "\t"], SPACES, NEWLINES, SPACES + NEWLINES + NEAR_SPACES]), 1, 7))
                for _ in range(self.rng.randint(1, 3)))
        return "".join(run + self.rng.choice(["", "a", "x1", ".", "'s", "é", "字", "\u0301"]) for run in runs)

    def special(self):
        parts = [self.rng.choice([self.rng.choice(SPECIALS), self.rng.choice(SPECIALS), self.rng.choice(SPECIALS)[:-1],
                                  "<|" + self.rng.choice(WORDS) + "|>", "<", "|>", " ", "\n", self.rng.choice(WORDS), "\u0301",
                                  self.rng.choice(SPECIALS).upper(), "<<|im_end|>>"]) for _ in range(self.rng.randint(1, 6))]
        return "".join(parts)

    def malformed(self):
        pieces = [self.rng.choice(MALFORMED), self.rng.choice(MALFORMED), self.rng.choice(WORDS).encode(), b" ", b"a",
                  self.rng.randbytes(self.rng.randint(1, 4)), self.rng.choice(WORDS).encode()[:-1], b"<|im_end|>"[:self.rng.randint(1, 10)]]
        return b"".join(self.rng.choice(pieces) for _ in range(self.rng.randint(1, 6)))

    def tokens(self):
        return b"".join(self.some(self.vocabulary, 1, 4)).decode("utf-8", "replace")

    def anything(self):
        planes = [0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000]
        points = [self.rng.randrange(self.rng.choice(planes)) for _ in range(self.rng.randint(1, 5))]
        return "".join(self.rng.choice(["", " ", "a", "\n"]) + chr(c) for c in points if not 0xD800 <= c < 0xE000)

    def run(self):
        part = self.rng.choice([*"a=-_.! \n\té字😀\u0301\u1100", "ab", "the", " a", "\r\n", " \n", "'s", "<|", "!!", "0", "한", "\u0301\u0316"])
        return part * self.rng.randint(2, self.rng.choice([10, 40, 300])) + self.rng.choice(["", "b", "\n", " x"])

    def mixed(self):
        kinds = [self.script, self.sentence, self.contraction, self.code, self.emoji, self.marks, self.number, self.white,
                 self.special, self.tokens]
        return "".join(self.rng.choice(kinds)() for _ in range(2))


def make_lines(rng, tokenizer):
    alphabet = byte_alphabet()
    special = set(SPECIALS)
    spelled = sorted(token for token in tokenizer.get_vocab(with_added_tokens=False) if token not in special)
    vocabulary = [bytes(alphabet[c] for c in token) for token in spelled]
    lines = Lines(rng, vocabulary)
    counts = {"script": 3200, "sentence": 2200, "contraction": 1500, "code": 900, "emoji": 1500, "marks": 2200, "number": 1500,
              "white": 2500, "special": 2000, "malformed": 1900, "tokens": 1600, "anything": 900, "run": 700, "mixed": 400}
    made = [b"", b" ", b"\n", "\ufeff".encode(), b"\x00", b"a" * 5000, b" " * 3000, "é".encode() * 1000]
    for kind, count in counts.items():
        for _ in range(count):
            line = getattr(lines, kind)()
            made.append(line if isinstance(line, bytes) else line.encode())
    return made, vocabulary


def byte_alphabet():
    """GPT-2's table: the character that spells each byte, inverted."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in plain}
    for i, byte in enumerate(b for b in range(256) if b not in plain):
        table[chr(0x100 + i)] = byte
    return table


def make_decodings(rng, tokenizer, vocabulary):
    """Id lists rich in tokens that are not whole characters, with both decodings."""
    size = tokenizer.get_vocab_size()
    base = {bytes_: id_ for id_, bytes_ in ((tokenizer.token_to_id(spell(b)), b) for b in vocabulary)}
    broken = [id_ for bytes_, id_ in base.items() if bytes_.decode("utf-8", "ignore").encode() != bytes_]
    rows = [([], "", "")]
    for _ in range(1200):
        ids = [rng.choice([rng.choice(broken), rng.choice(broken), rng.randrange(256), rng.randrange(size), rng.randrange(size - 22, size)])
               for _ in range(rng.randint(1, 9))]
        rows.append((ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids, skip_special_tokens=True)))
    return rows


def spell(data):
    inverse = {b: c for c, b in byte_alphabet().items()}
    return "".join(inverse[b] for b in data)


def planes(numbers, width):
    """Little-endian bytes, all lowest bytes first: compresses better than number by number."""
    return b"".join(bytes(n >> (8 * i) & 0xFF for n in numbers) for i in range(width))


def write_goldens(path, lines, ids, decodings):
    """u32 lines, u32 tokens, u32 bytes; line bytes and token counts (u16 planes); all text; all ids (u24 planes);
    then the same for decodings, whose texts come in pairs: with special tokens, without."""
    def section(counts, texts, id_lists):
        flat = [i for row in id_lists for i in row]
        blob = b"".join(texts)
        return (struct.pack("<III", len(texts), len(flat), len(blob)) + planes([len(t) for t in texts], 2)
                + planes(counts, 2) + blob + planes(flat, 3))
    texts = [t.encode() for row in decodings for t in row[1:]]
    counts = [n for row in decodings for n in (len(row[0]), 0)]
    data = section([len(row) for row in ids], lines, ids) + section(counts, texts, [row[0] for row in decodings])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    print(f"{path.relative_to(ROOT)}: {len(lines)} lines, {sum(map(len, ids))} ids, {len(decodings)} decodings, "
          f"{path.stat().st_size} bytes (tokenizers {tokenizers.__version__})")


def main():
    text = lzma.decompress((ROOT / "models/qwen-tokenizer/tokenizer.json.xz").read_bytes()).decode()
    tokenizer = tokenizers.Tokenizer.from_str(text)
    rng = random.Random(SEED)
    lines, vocabulary = make_lines(rng, tokenizer)
    encodings = tokenizer.encode_batch([line.decode("utf-8", "replace") for line in lines], add_special_tokens=False)
    write_goldens(ROOT / "tests/data/tokenizer/goldens.bin.xz", lines, [e.ids for e in encodings],
                  make_decodings(rng, tokenizer, vocabulary))


if __name__ == "__main__":
    main()
