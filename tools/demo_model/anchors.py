"""The start of the decoder: heads that look a fixed number of rows back, and heads that match what those found.

Finding "the code of Ada" takes two steps: the row of a code must know its name, the row of the answer the name that is
asked for, and then the two must meet. From random weights this circuit appears late (after more than 1,500 steps it
had not) because neither step pays without the other. Started as below it answers after 50 steps, and training is free
to change all of it.

A query bias and a key bias in fast rotary pairs give the score sum_p a^2 cos((m - n - offset) theta_p), which is largest
`offset` rows back: RoPE turns query and key by m theta and n theta, so the query's bias starts out turned by
-offset theta.
"""

import torch

AMPLITUDE = 7.0  # the next row back or forth scores 5 less
FAST_PAIRS = range(5)
# Rows back from an answer's first row to the word before "?": the name, the picture's number, the shape.
ASKED = 7
# Rows back from a code to its name, and from a picture's rows to its number.
CODE_TO_NAME, IMAGE_TO_NUMBER = 3, 4
# Channels of the residual stream in which the first layer notes what it found; `seen` ones are the rest.
NOTE_KEY, NOTE_QUERY = slice(176, 216), slice(216, 256)
SEEN = 176


def look_back(attention, head, offset):
    """Head `head` of an attention starts out looking `offset` rows back."""
    c = attention.c
    group = head // (c.heads // c.kv_heads)
    half = c.head_dim // 2
    for pair in FAST_PAIRS:
        angle = torch.tensor(-offset * c.rope_theta ** (-pair / half))
        attention.k_proj.bias[group * c.head_dim + pair] = AMPLITUDE
        attention.q_proj.bias[head * c.head_dim + pair] = AMPLITUDE * angle.cos()
        attention.q_proj.bias[head * c.head_dim + pair + half] = AMPLITUDE * angle.sin()


def orthogonal(rows, columns):
    return torch.nn.init.orthogonal_(torch.empty(rows, columns))


@torch.no_grad()
def start_decoder(text):
    first, d = text.layers[0].self_attn, text.c.head_dim
    rows = lambda head: slice(head * d, (head + 1) * d)
    text.embed_tokens.weight[:, SEEN:] *= 0.1
    for head, offset in ((0, CODE_TO_NAME), (1, ASKED), (2, IMAGE_TO_NUMBER), (3, ASKED + 1)):
        look_back(first, head, offset)
    # All heads read the same values and note them with the same weights, so that equal words give equal notes.
    first.v_proj.weight[rows(1)] = first.v_proj.weight[rows(0)]
    note = orthogonal(40, d) * 0.3
    for head, place in ((0, NOTE_KEY), (1, NOTE_QUERY), (2, NOTE_KEY)):
        first.o_proj.weight[:, rows(head)] = 0
        first.o_proj.weight[place, rows(head)] = note
    for layer in text.layers[1:]:
        attention = layer.self_attn
        match = orthogonal(d, 40) * 0.8
        attention.k_proj.weight[rows(0)] = 0
        attention.k_proj.weight[rows(0), NOTE_KEY] = match
        for head in (0, 1):
            attention.q_proj.weight[rows(head)] = 0
            attention.q_proj.weight[rows(head), NOTE_QUERY] = match
