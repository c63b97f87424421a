"""What the results of a configuration say beside the reference's: src/audit/verdict.cc and src/audit/conclusion.cc."""

import math
from dataclasses import dataclass

from .nodes import ROUNDOFF
from .statistics import SAFE_KL, SIGNIFICANT, few_losses_chance, right_answers_needed, sign_test
from .trace import add_layers


@dataclass
class Compared:
    configuration: object
    answered: list  # [(question, result)]
    memory: dict

    @property
    def count(self):
        return len(self.answered)

    @property
    def correct(self):
        return sum(r.correct for _, r in self.answered)

    @property
    def accuracy(self):
        return self.correct / self.count if self.count else 0.0

    @property
    def kl_values(self):
        return [kl for _, r in self.answered for kl in r.kl]

    @property
    def kl(self):
        values = self.kl_values
        return sum(values) / len(values) if values else 0.0

    def layers(self):
        sums = []
        for _, result in self.answered:
            add_layers(sums, result.layers)
        return sums


@dataclass
class Exchange:
    count: int = 0
    right: int = 0
    lost: int = 0
    gained: int = 0
    stopped: int = 0


def exchange_of(reference, other):
    by_id, e = {q.id: r for q, r in reference.answered}, Exchange()
    for question, result in other.answered:
        expected = by_id.get(question.id)
        if expected is None:
            continue
        e.count += 1
        e.right += expected.correct
        e.lost += expected.correct and not result.correct
        e.gained += not expected.correct and result.correct
        e.stopped += bool(result.problem) and not expected.problem
    return e


def _is_unsafe(e):
    return e.stopped > 0 or (e.lost > e.gained and sign_test(e.lost, e.gained) < SIGNIFICANT)


def verdict_of(reference, other, tolerated):
    e = exchange_of(reference, other)
    if _is_unsafe(e):
        return "unsafe"
    shown = few_losses_chance(e.lost, e.right, tolerated) <= SIGNIFICANT
    return "safe" if shown and other.kl <= SAFE_KL else "undecided"


def loses(reference, other):
    """Whether the loss is more than noise."""
    return _is_unsafe(exchange_of(reference, other)) or other.kl > SAFE_KL


# --- words -----------------------------------------------------------------------------------------------------------

def percent(share):
    return f"{100 * share:.0f} %"


def _scored(c):
    return f"{percent(c.accuracy)} ({c.correct} of {c.count})"


def _stopped_words(c):
    problems = [r.problem for _, r in c.answered if r.problem]
    return f"; {len(problems)} stopped ({problems[0]})" if problems else ""


def ranges(numbers):
    """ "0-3, 7 and 2 more" of ascending numbers."""
    parts, at = [], 0
    while at < len(numbers) and len(parts) < 4:
        last = at
        while last + 1 < len(numbers) and numbers[last + 1] == numbers[last] + 1:
            last += 1
        parts.append(str(numbers[at]) if at == last else f"{numbers[at]}-{numbers[last]}")
        at = last + 1
    return ", ".join(parts) + (f" and {len(numbers) - at} more" if at < len(numbers) else "")


def _risk_sentence(c, tower):
    """Scores of one tower that are too large for the type they are stored in: (sentence, largest), or None."""
    layers = [layer for layer in c.layers() if layer.tower == tower]
    nodes = {layer.layer: c.configuration.tower(tower).nodes_at(layer.layer, len(layers)) for layer in layers}
    risky = [layer for layer in layers if layer.total("at_risk") > 0 and nodes[layer.layer].scores_are_rounded]
    if not risky:
        return None
    worst = max(risky, key=lambda layer: layer.total("largest"))
    largest, dtype = worst.total("largest"), nodes[worst.layer].scaled
    word = "vision block" if tower == "vision" else "decoder layer"
    if math.isinf(largest):
        size = f"leave the range of {dtype}"
    else:
        spacing = 2.0 ** math.floor(math.log2(largest)) * 2 * ROUNDOFF[dtype]
        factor = f"{math.exp(spacing):.3g}" if spacing < 700 else "more than 1e300"
        size = (f"reach {largest:.0f} after scaling, where neighbouring {dtype} numbers are {spacing:g} apart, a factor of {factor} in the "
                "weight of a key")
    share = sum(layer.total("at_risk") for layer in risky) / max(sum(layer.row_count for layer in risky), 1)
    return (f"in {word} {worst.layer} scores {size}; {percent(share)} of the rows examined in {word}{'s' if len(risky) > 1 else ''} "
            f"{ranges([layer.layer for layer in risky])} are at risk", largest)


def _risk_words(c, attribution):
    sentences, acquitted = [], ""
    for tower in ("text", "vision"):
        found = _risk_sentence(c, tower)
        if found is None:
            continue
        guilty = attribution.guilty_nodes if attribution is not None and attribution.configuration == c.configuration.name else []
        if guilty and not any(node.startswith(tower + ".") for node in guilty):
            acquitted = f"; those of the {'vision tower' if tower == 'vision' else 'text decoder'}, at most {found[1]:.0f}, are not to blame"
        else:
            sentences.append(found[0])
    return f"Why {c.configuration.name}: {'; '.join(sentences)}{acquitted}." if sentences else ""


def _ruled_out(tolerated):
    return f"with 95 % confidence that {100 * tolerated:.3g} % or more are lost on questions like these"


def _say_few(reference, tolerated):
    needed = right_answers_needed(0, tolerated)
    if needed is None:
        return ["Too few questions: none are enough to show that nothing is ever lost, as a target of 1 asks, so nothing is called safe."]
    if reference.correct >= needed:
        return []
    return [f"Too few questions: {reference.configuration.name} answers {reference.correct} of them right. It takes {needed}, none of them "
            f"lost, to rule out {_ruled_out(tolerated)}; nothing is called safe on fewer."]


def _say_safe(reference, others, tolerated):
    safe, undecided, words = [], [], []
    for c in others:
        verdict, e = verdict_of(reference, c, tolerated), exchange_of(reference, c)
        if verdict == "safe":
            safe.append(f"{c.configuration.name} ({e.lost or 'none'} lost)")
        elif verdict == "undecided":
            exchanged = f"{c.configuration.name} ({e.lost} answers lost, {e.gained} gained"
            needed = right_answers_needed(e.lost, tolerated)
            undecided.append(f"{exchanged}: {needed} right ones needed)" if needed and e.right < needed else f"{exchanged}, mean KL {c.kl:.2g})")
    if safe:
        words.append(f"Safe here: {', '.join(safe)}: of the {reference.correct} answers that {reference.configuration.name} has right, losing so "
                     f"few rules out {_ruled_out(tolerated)}, and the distributions are close.")
    if undecided:
        words.append(f"Undecided: {', '.join(undecided)}: with {reference.correct} right answers of {reference.configuration.name} these "
                     "questions cannot tell whether it matters.")
    return words


def _say_layers(alone):
    """alone: {layer: (KL, error of the logits)} of attribution.layers_alone."""
    worst = sorted(alone, key=lambda layer: -alone[layer][0])[:3]
    if not worst or alone[worst[0]][0] <= SAFE_KL:
        return []
    said = [f"decoder layer {layer} ({alone[layer][0]:.2g} nats)" for layer in worst if alone[layer][0] > SAFE_KL]
    return [f"Where: this attention in one layer alone, everything else in fp32, costs {', '.join(said)} of KL."]


def conclude(reference, others, attribution, findings, tolerated, alone):
    """Sentences: what is safe, what is not, why, and where."""
    others, words = [c for c in others if c.answered], []
    for found in findings:
        words.append(f"Not attention: {found['message']}. What to do: {found['remedy']}.")
    has_answers = any(q.answers for q, _ in reference.answered)
    if not has_answers:
        words.append("Without expected answers nothing can be called safe; read KL and agreement.")
    elif reference.accuracy < 0.5:
        words.append(f"The reference {reference.configuration.name} itself answers only {_scored(reference)} right: this model cannot do this "
                     "suite, so accuracy says little here; read KL and agreement instead.")
    for c in [reference, *others]:
        empty = sum(not r.problem and not r.answer.strip() for _, r in c.answered)
        if empty and has_answers:
            words.append(f"{c.configuration.name} answers nothing to {empty} of {c.count} questions; they count as wrong.")
    if has_answers:
        words += _say_few(reference, tolerated)
        words += _say_safe(reference, others, tolerated)
    for c in others:
        if has_answers and verdict_of(reference, c, tolerated) == "unsafe":
            words.append(f"Not safe here: {c.configuration.name} answers {_scored(c)} right where {reference.configuration.name} answers "
                         f"{percent(reference.accuracy)}{_stopped_words(c)}.")
        elif has_answers or not loses(reference, c):
            continue
        else:
            words.append(f"Not safe here: {c.configuration.name} leaves the distributions of {reference.configuration.name}, mean KL "
                         f"{c.kl:.2g} nats{_stopped_words(c)}.")
        why = _risk_words(c, attribution)
        if why:
            words.append(why)
    if attribution is not None:
        words.append(f"To blame: {attribution.verdict}.")
    return words + _say_layers(alone)
