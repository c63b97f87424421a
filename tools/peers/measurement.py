"""Two programs that do the same work, timed in turn on a machine that other work may disturb."""

import math
import os
import resource
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

QUIET = 0.9           # a probe under this share of the best one seen: something else used the machine
OTHERS = 0.05         # nor may others take more than this share of all processor time during a run
CPU, READ = "bf16_gflops", "read_gbps"   # names of limits in the JSON of `fovea bench`


def bounds_of(work):
    """The limits that a piece of work depends on; decoding reads every weight for one token."""
    return (CPU, READ) if work.startswith("decode") else (CPU,)


class Host:
    """Says whether the machine was left alone. `probe()` returns its limits now; the best of each are kept."""

    def __init__(self, probe, others=None):
        self._probe, self.others, self.best = probe, others or processor_use, {}

    def probe(self):
        limits = self._probe()
        for name, value in limits.items():
            self.best[name] = max(value, self.best.get(name, 0))
        return limits

    def quiet(self, sample, work):
        probes_hold = all(limits[name] >= QUIET * self.best[name]
                          for limits in (sample.before, sample.after) for name in bounds_of(work))
        return probes_hold and sample.others <= OTHERS


def processor_use():
    """(seconds that all processors were busy or stolen, seconds of them spent in ended children of this process)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return busy, children.ru_utime + children.ru_stime


@dataclass
class Sample:
    seconds: dict          # of each piece of work in the run
    before: dict           # limits
    after: dict
    others: float          # share of all processor time that went to other programs and to the host's other guests


@dataclass
class Contender:
    label: str
    run: Callable[[], dict]                    # one run: seconds by name of the work
    settings: dict = field(default_factory=dict)   # versions and options, filled while running


@dataclass
class Comparison:
    name: str
    contenders: list       # ours first


def run_once(contender, host, before):
    start, (busy, children) = time.monotonic(), host.others()
    seconds = contender.run()
    elapsed, (busy_after, children_after) = time.monotonic() - start, host.others()
    others = (busy_after - busy - (children_after - children)) / (elapsed * os.cpu_count()) if elapsed > 0 else 0
    return Sample(seconds, before, host.probe(), max(0.0, others))


def run_undisturbed(contender, host, attempts, say):
    """For each piece of work the first quiet sample of up to `attempts` runs; the last one where none was quiet."""
    kept, before = {}, host.probe()
    for attempt in range(attempts):
        sample = run_once(contender, host, before)
        before = sample.after
        for work in sample.seconds:
            if work not in kept or not host.quiet(kept[work], work):
                kept[work] = sample
        if all(host.quiet(kept[work], work) for work in kept):
            break
        say(f"disturbed, attempt {attempt + 1} of {attempts}: {describe(sample, host)}")
    return kept


def describe(sample, host):
    limits = ", ".join(f"{name} {sample.before[name]:.4g} before, {sample.after[name]:.4g} after, best "
                       f"{host.best[name]:.4g}" for name in (CPU, READ))
    return f"{limits}; others used {sample.others:.1%} of the processors"


def measure(comparison, host, rounds, attempts, say):
    """Ours, peer, ours, peer ...: {work: {label: [Sample of each round]}}."""
    samples = {}
    for number in range(rounds):
        for contender in comparison.contenders:
            say(f"{comparison.name}, round {number + 1} of {rounds}: {contender.label}")
            for work, sample in run_undisturbed(contender, host, attempts, say).items():
                samples.setdefault(work, {}).setdefault(contender.label, []).append(sample)
    return samples


def summary(work, by_label, labels, host):
    """One line for each peer: medians in seconds, their ratio (over 1: ours is faster), its range over the rounds."""
    ours, lines = by_label.get(labels[0], []), []
    for label in labels[1:]:
        theirs = by_label.get(label, [])
        if not ours or not theirs:
            continue
        pairs = [theirs_one.seconds[work] / ours_one.seconds[work] for ours_one, theirs_one in zip(ours, theirs)]
        lines.append({
            "work": work, "peer": label,
            "fovea_s": median(ours, work), "peer_s": median(theirs, work),
            "ratio": median(theirs, work) / median(ours, work), "lowest": min(pairs), "highest": max(pairs),
            # judged again by the best probes of the whole run, which may have come later
            "clean": all(host.quiet(sample, work) for sample in ours + theirs)})
    return lines


def median(samples, work):
    return statistics.median(sample.seconds[work] for sample in samples)


def with_derived_attention(samples):
    """Adds attention as the part of prefill that grows with the square of the length, from two lengths n and k n:
    t(n) = b n + a n^2, so a (k n)^2 = (t(k n) - k t(n)) k / (k - 1). The same for ours and for the peer, round by
    round; left out for who has a round where noise exceeds it."""
    lengths = sorted(int(work.split(".")[1]) for work in samples if work.startswith("prefill."))
    for short, long in zip(lengths, lengths[1:]):
        name, k = f"attention_in_prefill.{long}", long / short
        for label in samples[f"prefill.{long}"].keys() & samples[f"prefill.{short}"].keys():
            pairs = zip(samples[f"prefill.{short}"][label], samples[f"prefill.{long}"][label])
            derived = [
                Sample({name: (b.seconds[f"prefill.{long}"] - k * a.seconds[f"prefill.{short}"]) * k / (k - 1)},
                       worse(a.before, b.before), worse(a.after, b.after), max(a.others, b.others)) for a, b in pairs]
            if all(sample.seconds[name] > 0 for sample in derived):
                samples.setdefault(name, {})[label] = derived
    return samples


def worse(a, b):
    return {name: min(a.get(name, math.inf), b.get(name, math.inf)) for name in a.keys() | b.keys()}
