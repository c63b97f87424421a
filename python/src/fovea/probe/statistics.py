"""The few statistics of an audit, as in src/audit/statistics.cc and src/audit/verdict.cc."""

import math

import torch

SIGNIFICANT = 0.05
SAFE_KL = 0.05  # nats: the reference's tokens keep 95 % of their likelihood in the mean


def wilson_interval(correct, count):
    """The Wilson score interval of `correct` of `count` at 95 %; [0, 1] for count 0."""
    if count == 0:
        return [0.0, 1.0]
    z = 1.959963984540054
    p, scale = correct / count, 1 + z * z / count
    centre = (p + z * z / (2 * count)) / scale
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / scale
    return [0.0 if correct == 0 else max(0.0, centre - half), 1.0 if correct == count else min(1.0, centre + half)]


def quantile(ordered, share):
    """Linear interpolation between neighbours of sorted values."""
    place = share * (len(ordered) - 1)
    below = int(place)
    if below + 1 >= len(ordered):
        return ordered[-1]
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def wide(device):
    """The widest float of a device: Apple's GPUs have no f64."""
    return torch.float32 if device.type == "mps" else torch.float64


def kl_divergence(p_logits, q_logits):
    """KL(p || q) in nats of each row of logits [rows, vocab]; never negative."""
    dtype = wide(p_logits.device)
    p, q = p_logits.to(dtype).log_softmax(-1), q_logits.to(device=p_logits.device, dtype=dtype).log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).clamp_min(0).tolist()


def _log_binomial(k, n, p):
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p)
            + (n - k) * math.log1p(-p))


def sign_test(lost, gained):
    """How likely so many losses are if losing and gaining were equal."""
    return sum(math.exp(_log_binomial(k, lost + gained, 0.5)) for k in range(lost, lost + gained + 1))


def few_losses_chance(lost, right, loss):
    """How likely it is to see at most `lost` of `right` answers lost when each is lost with probability `loss`."""
    if lost >= right or loss <= 0:
        return 1.0
    return sum(math.exp(_log_binomial(k, right, loss)) for k in range(lost + 1))


def right_answers_needed(lost, tolerated):
    """The fewest right answers among which `lost` lost ones show that less than `tolerated` are lost; None: never."""
    if tolerated <= 0:
        return None
    few, enough = lost, lost + 1
    while few_losses_chance(lost, enough, tolerated) > SIGNIFICANT:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = few + (enough - few) // 2
        if few_losses_chance(lost, middle, tolerated) > SIGNIFICANT:
            few = middle
        else:
            enough = middle
    return enough
