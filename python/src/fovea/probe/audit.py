"""fovea.probe: the audit of a model that runs in transformers."""

import time
from dataclasses import replace

import torch

from ..errors import Error
from ..report import Report
from . import checks, report
from .asked import asked_questions, describe
from .attribution import Attributor, layers_alone
from .configuration import parse_configuration
from .evaluation import Evaluator
from .questions import suite_of, tokenizer_of
from .runner import Runner
from .verdict import Compared, conclude, exchange_of, verdict_of


def _default_compare(runner):
    from transformers.utils import is_flash_attn_2_available
    names, with_flash = ["eager", "sdpa"], is_flash_attn_2_available()
    device = next(runner.model.parameters()).device.type
    if with_flash and device == "cuda" and runner.dtype in (torch.bfloat16, torch.float16):
        names.append("flash_attention_2")
    return names


def _configurations(runner, compare, reference):
    registered = runner.functions.valid_keys()
    if reference not in ("fp32", "fp64", "attention-fp32"):
        raise Error("invalid_argument", f"reference={reference!r}", 'use "fp32", "fp64", or "attention-fp32" (attention alone, the rest as it is)')
    base = parse_configuration("reference" if reference == "fp64" else "fp32", runner.dtype, registered)
    base = replace(base, name=reference)
    if reference == "attention-fp32":
        base = replace(base, dtype=runner.dtype, advice=f"attention in fp32, the rest in {runner.dtype}")
    names = [compare] if isinstance(compare, str) else list(compare)
    names = [part for name in names for part in (name.split(",") if ":" not in name else [name])]
    if len(set(names)) != len(names):
        raise Error("invalid_argument", "a configuration is there twice", "name every configuration once")
    found = [parse_configuration(name, runner.dtype, registered) for name in names]
    return base, [c for c in found if c.name != base.name]


def _findings(evaluator, configurations, questions, positions):
    """Checks that need one or two forward passes; `positions`: {question id: text only?} of the reference's runs."""
    runner, found = evaluator.runner, []
    known = {id: broken for id, broken in positions.items() if broken is not None}
    if known:
        first = next(q for q in questions if q.id in known)
        found.append(checks.positions_finding(sum(known.values()), len(known), evaluator.inputs(first), runner.version))
    asked = [q for q in questions if q.id in evaluator.facts and q.id not in evaluator.problems]
    if asked:
        shortest = min(asked, key=lambda q: evaluator.facts[q.id].context)
        for configuration in configurations:
            if configuration.own is not None:
                found.append(checks.mask_finding(evaluator, configuration, shortest))
    found.append(checks.pixels_finding(runner.model, evaluator.processor, evaluator.grids))
    found.append(checks.padding_side_finding(tokenizer_of(evaluator.processor)))
    return [one for one in found if one is not None]


def _recommended(reference, others, tolerated, counts):
    safe = [c for c in others if c.answered and verdict_of(reference, c, tolerated) == "safe"]
    if not safe:
        return None
    best = min(safe, key=lambda c: (c.memory["scores"], c.memory["attention"]))
    return {"name": best.configuration.name, "policy": best.configuration.name, "flags": best.configuration.advice,
            "description": describe(best.configuration, counts),
            "accuracy": best.accuracy, "interval": report.wilson_interval(best.correct, best.count), "count": best.count,
            "target": reference.accuracy, "reaches_target": True, "score_bytes": best.memory["scores"],
            "peak_bytes": best.memory["attention"] + best.memory["kv_cache"], "seconds": sum(r.seconds for _, r in best.answered),
            "why": "the cheapest of those compared that was shown to be safe", "against": None}


def probe(model, processor, questions, compare=None, *, reference="fp32", drift=True, attribute=True, layerwise=True, limit=None,
          max_new_tokens=32, attribution_items=24, target=0.95, progress=None, note=None):
    """Asks `questions` of a model of transformers under several attentions and says which are safe, which are not, and why.

    model: any model of transformers with a language head whose attention goes through AttentionInterface, on any device. Its
        parameters are cast to fp32 for the reference and back, and its attention implementation is put back, too.
    processor: its AutoProcessor, or tokenizer.
    questions: the path of a suite (docs/guide/audit.md), or a list of records, of prompts (strings), of message lists, or of inputs.
    compare: names; transformers' own ("eager", "sdpa", "flash_attention_2", any that is registered) run its code, those of fovea's
        presets ("eager-bf16", "eager-qkv-fp32:text.layers.0.scores=bf16") the same arithmetic in blocks of queries. None: what
        this machine has of eager, sdpa and flash_attention_2.
    reference: "fp32"; "fp64" (attention in f64); "attention-fp32" (attention alone, where the weights cannot be cast).
    drift: errors layer by layer; attribute: which node is to blame; layerwise: what each layer's attention costs alone.
    progress(stage, done, total) and note(text) follow the run.
    """
    suite, started = suite_of(questions), time.perf_counter()
    chosen = suite.items[:limit] if limit else suite.items
    tolerated, complete = min(1 - target, 0.05), True
    with Runner(model) as runner:
        base, others = _configurations(runner, compare if compare is not None else _default_compare(runner), reference)
        evaluator = _Watched(runner, processor, base, max_new_tokens, progress, note)
        attribution, alone, findings, failing = None, {}, [], None
        try:
            evaluator.evaluate("compare", others, chosen, drift, examine=True)
            _require_questions(evaluator, suite, chosen)
            findings = _findings(evaluator, others, chosen, evaluator.text_only)
            asked = [q for q in chosen if q.id not in evaluator.problems]
            failing = _failing(evaluator, base, others, asked)
            if attribute and failing is not None:
                attribution = Attributor(evaluator, base, failing, attribution_items).run(asked)
                if layerwise and attribution.guilty:
                    alone = layers_alone(evaluator, attribution.failing, asked[: max(attribution_items // 4, 1)])
        except KeyboardInterrupt:
            complete = False
        finally:
            evaluator.close()
        return Report(_json(evaluator, suite, chosen, base, others, attribution, alone, findings, tolerated, drift, complete,
                            time.perf_counter() - started))


class _Watched(Evaluator):
    """Also hears positions and grids while the reference is asked."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.positions, self.text_only, self.grids = checks.PositionCheck(self.model), {}, []

    def run_reference(self, question, drift):
        first = question.id not in self.text_only
        result = super().run_reference(question, drift)
        if first:
            inputs = self.inputs(question)
            self.text_only[question.id] = self.positions.text_only(inputs["input_ids"])
            self.grids += [(question.id, grid) for grid in inputs.get("image_grid_thw", torch.empty(0, 3)).tolist()]
        return result

    def close(self):
        self.positions.remove()


def _require_questions(evaluator, suite, chosen):
    if not evaluator.runner.sites:
        raise Error("unsupported", f"no attention of {type(evaluator.model).__name__} goes through transformers' interface",
                    "there is nothing that the probe could hear or change")
    if all(q.id in evaluator.problems for q in chosen):
        first = evaluator.problems[chosen[0].id]
        raise Error("invalid_argument", f"no question of {suite.source} can be asked; the first: {first['id']}: {first['message']}", first["remedy"])


def _failing(evaluator, base, others, questions):
    """The one that loses most: in answers, then in KL."""
    compared = [Compared(c, evaluator.answered(c, questions), {}) for c in others]
    compared = [c for c in compared if c.answered]
    return min(compared, key=lambda c: (c.correct, -len([r for _, r in c.answered if r.problem]), -c.kl)).configuration if compared else None


def _json(evaluator, suite, chosen, base, others, attribution, alone, findings, tolerated, drift, complete, seconds):
    from .. import __version__
    runner = evaluator.runner
    asked = [q for q in chosen if q.id not in evaluator.problems]
    compared = [Compared(c, evaluator.answered(c, asked), report.memory_of(c, runner, evaluator.facts, evaluator.max_new_tokens))
                for c in (base, *others)]
    reference, rest = compared[0], compared[1:]
    json = {"format": "fovea-audit", "version": report.FORMAT_VERSION, "complete": complete, "made_by": "fovea.probe",
            "date": report.utc_now(), "command": None,
            "model": report.model_json(evaluator.model, runner), "machine": report.machine_json(evaluator.model, __version__),
            "suite": report.suite_json(suite, evaluator), "warnings": [f"{f['message']}; {f['remedy']}" for f in findings],
            "findings": findings, "reference": base.name, "configurations": []}
    for c in compared:
        failing = attribution is not None and attribution.configuration == c.configuration.name
        one = report.configuration_json(c, c is reference, evaluator.facts, drift, alone if failing else {}, runner.counts)
        one["verdict"] = None if c is reference or not c.answered else verdict_of(reference, c, tolerated)
        json["configurations"].append(one)
    json["questions"] = asked_questions(compared, evaluator.processor)
    json["attribution_of"] = attribution and {"configuration": attribution.configuration, "items": attribution.items,
                                              "guilty": attribution.guilty, "verdict": attribution.verdict}
    json["attribution"] = attribution.entries if attribution else []
    json["recommended"] = _recommended(reference, rest, tolerated, runner.counts) if any(q.answers for q in asked) else None
    json["search"] = json["storage_search"] = None
    json["safety"] = report.safety_json(reference, tolerated)
    json["conclusion"] = conclude(reference, rest, attribution, findings, tolerated, alone)
    if json["recommended"]:
        json["conclusion"].append(f"Use: {json['recommended']['flags']}.")
    json["seconds"] = seconds
    return json
