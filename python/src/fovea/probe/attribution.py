"""Which node of a failing configuration is to blame: each is raised to fp32 alone, and lowered alone where everything
else is fp32, as in src/audit/attribution.h. Here the nodes are those of attention, all that is outside it taken together."""

import math
from dataclasses import dataclass, field, replace

import torch

from .configuration import Tower
from .nodes import NAMES, nodes_of
from .statistics import wilson_interval
from .verdict import Compared, loses

MOST, LEADING = 0.75, 3


@dataclass
class Attribution:
    configuration: str
    items: int = 0
    guilty: str = ""
    guilty_nodes: list = field(default_factory=list)
    verdict: str = ""
    entries: list = field(default_factory=list)
    failing: object = None


@dataclass
class Trial:
    nodes: tuple
    raised: object
    lowered: object
    raised_score: dict = None
    lowered_score: dict = None
    cure: float = 0.0
    harm: float = 0.0
    in_detail: bool = False

    @property
    def name(self):
        return "+".join(self.nodes)


def as_nodes(configuration):
    """The configuration with transformers' eager as nodes; other code of transformers stays what it is."""
    for tower in ("text", "vision"):
        one = configuration.tower(tower)
        if one.own == "eager":
            configuration = configuration.with_tower(tower, Tower(nodes=one.nodes))
    return configuration


def entries_of(configuration):
    """Names of nodes, singly and in the groups that belong together."""
    low = {tower: [] if configuration.tower(tower).own else configuration.tower(tower).nodes.low_nodes() for tower in ("text", "vision")}
    entries = []
    if {"scores", "scaled"} <= set(low["text"]):
        entries.append(("text.scores", "text.scaled"))
    entries += [(f"text.{node}",) for node in low["text"]]
    if {"scores", "scaled"} <= set(low["vision"]):
        entries.append(("vision.scores", "vision.scaled"))
    for tower in ("text", "vision"):
        if configuration.tower(tower).own:
            entries.append((f"{tower}.attention",))
    if len(low["vision"]) > 2:
        entries.append(tuple(f"vision.{node}" for node in low["vision"]))
    if configuration.dtype != torch.float32:
        entries.append(("outside attention",))
    return entries


def raised(configuration, entry):
    """The configuration with these nodes in fp32."""
    if entry == ("outside attention",):
        result = replace(configuration, dtype=torch.float32)
        for tower in ("text", "vision"):
            if configuration.tower(tower).own:
                result = result.with_tower(tower, replace(configuration.tower(tower), operands=configuration.dtype))
        return result
    return _with(configuration, entry, "fp32")


def lowered(configuration, entry):
    """Everything in fp32 but these nodes, which are as in the configuration."""
    exact = Tower(nodes=nodes_of("sdpa", "fp32"))
    if entry == ("outside attention",):
        return configuration.with_tower("text", exact).with_tower("vision", exact)
    result = replace(configuration, dtype=torch.float32)
    for tower in ("text", "vision"):
        mine = configuration.tower(tower)
        if f"{tower}.attention" in entry:
            result = result.with_tower(tower, replace(mine, operands=configuration.dtype))
        elif mine.own:
            result = result.with_tower(tower, exact)
        else:
            others = [f"{tower}.{node}" for node in mine.nodes.low_nodes() if f"{tower}.{node}" not in entry]
            result = _with(result, others, "fp32")
    return result


def _with(configuration, names, value):
    for name in names:
        tower, _, node = name.partition(".")
        if tower not in ("text", "vision"):
            continue
        mine = configuration.tower(tower)
        if node == "attention":
            mine = Tower(nodes=nodes_of("sdpa", "fp32"))
        else:
            mine = replace(mine, nodes=mine.nodes.with_node(node, value), layers=tuple(s for s in mine.layers if s[1] != node))
        configuration = configuration.with_tower(tower, mine)
    return configuration


def telling(evaluator, reference, failing, questions, count):
    """Two thirds that the reference answers right and the configuration wrong, and others; else those of the largest KL."""
    candidates = []
    for question in questions:
        a, b = (evaluator.results.get((c.key, question.id)) for c in (reference, failing))
        if a is None or b is None or a.problem:
            continue
        mean = sum(b.kl) / len(b.kl) if b.kl else 0.0
        candidates.append((question, bool(b.problem) or (a.correct and not b.correct), mean))
    candidates.sort(key=lambda c: (not c[1], -c[2]))
    lost, wanted = sum(c[1] for c in candidates), min(count, len(candidates))
    others = max(wanted - lost, min(wanted // 3, len(candidates) - lost))
    return [c[0] for c in candidates[: wanted - others]] + [c[0] for c in candidates[lost : lost + others]]


class Attributor:
    def __init__(self, evaluator, reference, failing, items=24):
        self.evaluator, self.reference, self.failing, self.items = evaluator, reference, failing, items
        self.base = as_nodes(failing)
        self.stopped_kl = math.log(evaluator.model.config.get_text_config().vocab_size)

    def run(self, questions):
        result = Attribution(self.failing.name, failing=self.base)
        chosen = telling(self.evaluator, self.reference, self.failing, questions, self.items)
        result.items = len(chosen)
        if not chosen:
            result.verdict = "there is no question that both configurations were asked"
            return result
        answered = lambda c: Compared(c, self.evaluator.answered(c, questions), {})
        harmless = not loses(answered(self.reference), answered(self.failing))
        trials = [Trial(entry, raised(self.base, entry), lowered(self.base, entry)) for entry in entries_of(self.base)]
        has_vision = self.evaluator.runner.counts["vision"] > 0
        trials = [t for t in trials if has_vision or not t.nodes[0].startswith("vision.")]
        if not trials:
            result.verdict = f"{self.failing.name} rounds nothing to 16 bits"
            return result
        step = max(min(4, len(chosen) // 4), 1)
        quarter = chosen[::step]
        self._ask(trials, quarter)
        self._rank(trials)
        detailed = self._leading(trials)
        self._ask(detailed, chosen)
        for trial in detailed:
            trial.in_detail = True
        self._rank(trials)
        self._judge(result, trials, harmless, quarter, chosen)
        return result

    def _ask(self, trials, questions):
        self.evaluator.evaluate("attribute", [c for t in trials for c in (t.raised, t.lowered)] + [self.base], questions)
        for trial in trials:
            self._score(trial, questions)

    def _score_of(self, configuration, questions):
        answered = self.evaluator.answered(configuration, questions)
        expected = dict((q.id, r) for q, r in self.evaluator.answered(self.reference, questions))
        values = [kl for _, r in answered for kl in r.kl]
        for question, result in answered:
            if result.problem and question.id in expected:
                values += [self.stopped_kl] * (len(expected[question.id].kl) - len(result.kl))
        correct = sum(r.correct for _, r in answered)
        return {"accuracy": correct / len(answered) if answered else 0.0, "interval": wilson_interval(correct, len(answered)),
                "count": len(answered), "kl": sum(values) / len(values) if values else None}

    def _score(self, trial, questions):
        share = lambda part, whole: max(-1.0, min(1.0, part / whole)) if whole > 0 else 0.0
        trial.raised_score, trial.lowered_score = (self._score_of(c, questions) for c in (trial.raised, trial.lowered))
        worst, best = self._score_of(self.base, questions), self._score_of(self.reference, questions)
        worst_kl = worst["kl"] or 0.0
        cure = share(worst_kl - (trial.raised_score["kl"] or 0.0), worst_kl)
        harm = share(trial.lowered_score["kl"] or 0.0, worst_kl)
        lost = best["accuracy"] - worst["accuracy"]
        if lost > 0:
            cure = (cure + share(trial.raised_score["accuracy"] - worst["accuracy"], lost)) / 2
            harm = (harm + share(best["accuracy"] - trial.lowered_score["accuracy"], lost)) / 2
        trial.cure, trial.harm = cure, harm

    @staticmethod
    def _rank(trials):
        trials.sort(key=lambda t: -(2 * t.cure + t.harm))

    @staticmethod
    def _leading(trials):
        parts = {node for t in trials[:LEADING] if len(t.nodes) < 4 for node in t.nodes}
        return [t for i, t in enumerate(trials) if i < LEADING or (len(t.nodes) == 1 and t.nodes[0] in parts)]

    def _judge(self, result, trials, harmless, quarter, chosen):
        cures = [] if harmless else [t for t in trials if t.cure >= MOST]
        culprit = min(cures, key=lambda t: len(t.nodes)) if cures else None
        if culprit is not None:
            trials.sort(key=lambda t: t is not culprit)
        for rank, trial in enumerate(trials, 1):
            result.entries.append(self._entry(trial, rank, trial is culprit, chosen if trial.in_detail else quarter))
        first = trials[0]
        if harmless:
            result.verdict = f"nothing: what {self.failing.name} loses here is not more than noise"
        elif culprit is None:
            result.verdict = (f"no single node and no group explains the loss of {self.failing.name}; the largest part, "
                              f"{100 * max(first.cure, 0):.0f} %, goes away with {first.name}")
        else:
            result.guilty, result.guilty_nodes = culprit.name, list(culprit.nodes)
            result.verdict = f"{self.failing.name} fails at {_described(culprit)}: kept in fp32, {100 * culprit.cure:.0f} % of the loss goes away"

    def _entry(self, trial, rank, guilty, questions):
        worst, best = self._score_of(self.base, questions), self._score_of(self.reference, questions)
        effect = (f"raised alone it wins back {100 * max(trial.cure, 0):.0f} % of the loss, lowered alone it causes "
                  f"{100 * max(trial.harm, 0):.0f} % of it")
        if guilty and len(trial.nodes) > 1:
            effect += "; these roundings follow each other, so that none of them alone need cure anything"
        towers = {node.partition(".")[0] for node in trial.nodes}
        return {"rank": rank, "node": trial.name, "nodes": list(trial.nodes),
                "tower": "vision" if towers == {"vision"} else "text" if towers == {"text"} else "both", "group": len(trial.nodes) > 1,
                "raised": trial.raised_score, "lowered": trial.lowered_score,
                "accuracy_gain": trial.raised_score["accuracy"] - worst["accuracy"],
                "kl_gain": (worst["kl"] or 0.0) - (trial.raised_score["kl"] or 0.0),
                "accuracy_loss": best["accuracy"] - trial.lowered_score["accuracy"], "kl_loss": trial.lowered_score["kl"],
                "cure": trial.cure, "harm": trial.harm, "guilty": guilty, "why": effect}


def _described(trial):
    named = {"text.scores+text.scaled": "the scores of the text decoder (product and scale)",
             "vision.scores+vision.scaled": "the scores of the vision tower (product and scale)",
             "text.attention": "the attention of the text decoder", "vision.attention": "the attention of the vision tower"}
    return named.get(trial.name, trial.name if len(trial.name) < 60 else "the nodes of the vision tower together")


def layers_alone(evaluator, failing, questions):
    """What the attention of each text layer costs alone: everything in fp32 but the nodes of that layer as in `failing`
    (with transformers' eager as nodes). {layer: (mean KL, relative error of the logits)}; empty for other code."""
    tower = failing.text
    if tower.own:
        return {}
    count = evaluator.runner.counts["text"]
    exact, by_layer = Tower(nodes=nodes_of("sdpa", "fp32")), {}
    for layer in range(count):
        nodes = tower.nodes_at(layer, count)
        settings = tuple(((layer, layer), name, getattr(nodes, name)) for name in
                         ("scores", "scale", "scaled", "mask", "inf_to_zero", "probabilities", "normalised", "output", "score_shift", "k_centring"))
        by_layer[layer] = replace(failing, dtype=torch.float32, vision=exact, text=replace(exact, layers=settings))
    evaluator.evaluate("layers", list(by_layer.values()), questions)
    found = {}
    for layer, configuration in by_layer.items():
        results = [r for _, r in evaluator.answered(configuration, questions) if not r.problem]
        kl = [value for r in results for value in r.kl]
        error = [sum(r.logits_error[i] for r in results) for i in (0, 1)]
        if kl:
            found[layer] = (sum(kl) / len(kl), math.sqrt(error[0] / error[1]) if error[1] > 0 else None)
    return found
