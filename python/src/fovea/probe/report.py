"""The audit's JSON (docs/guide/audit.md) of a probe."""

import datetime
import math
import platform
import resource
import sys
from pathlib import Path

import torch

from .asked import describe
from .nodes import NAMES
from .statistics import quantile, right_answers_needed, wilson_interval
from .trace import relative

FORMAT_VERSION = 1  # of src/base/format_version.h, kAuditJson


def _finite(value):
    return None if value is None or not math.isfinite(value) else value


def _score(c):
    return {"count": c.count, "correct": c.correct, "accuracy": c.accuracy, "interval": wilson_interval(c.correct, c.count)}


def _score_of(results):
    correct = sum(r.correct for _, r in results)
    return {"count": len(results), "correct": correct, "accuracy": correct / len(results), "interval": wilson_interval(correct, len(results))}


def _grouped(answered, key):
    groups = {}
    for question, result in answered:
        for value in key(question):
            groups.setdefault(value, []).append((question, result))
    return sorted(groups.items())


def _by_context(c, facts):
    def low(question):
        found, bound = 0, 256
        while facts[question.id].context >= bound:
            found, bound = bound, bound * 2
        return [found]

    label = lambda first: {"label": f"{first}-{2 * first - 1 if first else 255}", "min": first, "max": 2 * first - 1 if first else 255}
    return [{**label(first), **_score_of(group)} for first, group in _grouped(c.answered, low)]


def _by_tag(c):
    groups = _grouped(c.answered, lambda q: q.tags)
    values = [tag for (tag, _), _ in groups]
    return [{"tag": tag, "value": value, **_score_of(group)} for (tag, value), group in groups if values.count(tag) <= 50]


def _layer(layer, nodes, alone):
    rounded, measured = nodes.scores_are_rounded, layer.total("measured")
    per_row = lambda name: _finite(layer.total(name) / measured) if measured else None
    heads = []
    for head in range(0 if layer.rows is None else len(layer.rows)):
        value = lambda name: float(layer.heads[name][head])
        heads.append({"head": head, "largest_score": _finite(value("largest")), "rows_at_risk": int(value("at_risk")) if rounded else None,
                      "kernel_error": _finite(value("kernel_error") / value("measured")) if value("measured") else None})
    entry = {"tower": layer.tower, "layer": layer.layer,
             "attention_error": {"answer": relative(layer.attention_answer), "all": relative(layer.attention_all)},
             "hidden_error": {"answer": relative(layer.hidden_answer), "all": relative(layer.hidden_all)},
             "kernel_error": per_row("kernel_error"), "predicted_error": per_row("predicted_error"), "spread": per_row("spread"),
             "largest_score": _finite(layer.total("largest")), "rows_at_risk": int(layer.total("at_risk")) if rounded else None,
             "rows": layer.row_count, "overflows": int(layer.total("overflows")), "heads": heads}
    if layer.tower == "text" and layer.layer in alone:
        entry["alone"] = {"kl": alone[layer.layer][0], "logits_error": alone[layer.layer][1]}
    return entry


def _item(question, result, facts, sources):
    return {"id": question.id, "context": facts[question.id].context, "images": facts[question.id].images, "tags": dict(question.tags),
            "expected": question.answers, "answer": result.answer, "correct": result.correct, "tokens": result.tokens,
            "kl": sum(result.kl) / len(result.kl) if result.kl else None,
            "agreement": result.agreed / len(result.kl) if result.kl else None, "first_divergence": result.first_divergence,
            "seconds": result.seconds, "problem": result.problem or None}


def configuration_json(c, is_reference, facts, drift, alone, counts):
    layers, answered = c.layers(), c.answered
    count = {tower: sum(layer.tower == tower for layer in layers) for tower in ("text", "vision")}
    nodes = lambda layer: c.configuration.tower(layer.tower).nodes_at(layer.layer, count[layer.tower])
    rounded = any(nodes(layer).scores_are_rounded for layer in layers)
    rows, values = sum(layer.row_count for layer in layers), sorted(c.kl_values)
    compared = [r for _, r in answered if r.kl]
    places = sorted({r.first_divergence for r in compared if r.first_divergence is not None})
    error = [sum(r.logits_error[i] for _, r in answered) for i in (0, 1)]
    problems = [{"id": q.id, "message": r.problem} for q, r in answered if r.problem]
    return {
        "name": c.configuration.name, "policy": c.configuration.name, "flags": c.configuration.advice,
        "description": describe(c.configuration, counts), "is_reference": is_reference, **_score(c),
        "errors": len(problems), "problems": problems, "empty_answers": sum(not r.problem and not r.answer.strip() for _, r in answered),
        "by_context": _by_context(c, facts),
        "by_images": [{"images": n, **_score_of(group)} for n, group in _grouped(answered, lambda q: [facts[q.id].images])],
        "by_tag": _by_tag(c), "kl": c.kl if values else None,
        "kl_detail": {"tokens": len(values), "mean": c.kl, "median": quantile(values, 0.5), "p95": quantile(values, 0.95), "max": values[-1]}
        if values else None,
        "agreement": sum(r.agreed for r in compared) / len(values) if values else None,
        "identical_answers": sum(r.first_divergence is None for r in compared) / len(compared) if compared else None,
        "first_divergence": [{"position": p, "count": sum(r.first_divergence == p for r in compared)} for p in places],
        "logits_error": relative(error),
        "rows_at_risk": int(sum(layer.total("at_risk") for layer in layers)) if rounded and rows else None, "rows": rows,
        "largest_score": _finite(max(layer.total("largest") for layer in layers)) if rows else None,
        "overflows": int(sum(layer.total("overflows") for layer in layers)),
        "layers": [_layer(layer, nodes(layer), alone) for layer in layers] if drift else None,
        "peak_bytes": c.memory["attention"] + c.memory["kv_cache"], "memory": {**c.memory, "resident": _resident()},
        "seconds": sum(r.seconds for _, r in answered), "items": [_item(q, r, facts, None) for q, r in answered]}


def _resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_of(configuration, runner, facts, max_new_tokens):
    """Computed for the largest prompt from shapes: {attention, kv_cache, activations, scores} in bytes."""
    size = {"fp32": 4, "fp64": 8, "bf16": 2, "fp16": 2}
    tokens = max((f.context for f in facts.values()), default=0)
    sites = list(runner.sites.values())
    plan = {"attention": 0, "kv_cache": 0, "activations": 0, "scores": 0}
    for site in sites:
        tower = configuration.tower(site.tower)
        nodes = tower.nodes_at(site.layer, runner.counts[site.tower])
        queries = keys = tokens if site.tower == "text" else site.longest
        if nodes.kind == "eager":
            kept = (0 if nodes.scale == "fused" else size[nodes.scores]) + size[nodes.scaled] + size[nodes.probabilities]
            plan["scores"] += kept * site.heads * queries * keys
            if tower.own:
                plan["attention"] = max(plan["attention"], (kept + 4) * site.heads * queries * keys)
        if site.tower == "text":
            plan["kv_cache"] += 2 * site.kv_heads * site.head_dim * (tokens + max_new_tokens) * size[NAMES[configuration.dtype]]
    return plan


def suite_json(suite, evaluator):
    facts = [evaluator.facts[q.id] for q in suite.items if q.id in evaluator.facts and q.id not in evaluator.problems]
    problems = suite.problems + list(evaluator.problems.values())
    context, images = sorted(f.context for f in facts), sorted(f.images for f in facts)
    result = {"source": suite.source, "items": suite.lines, "used": len(context), "skipped": len(problems), "problems": problems,
              "context": None, "images": None}
    if context:
        result["context"] = {"min": context[0], "median": int(quantile(context, 0.5)), "max": context[-1]}
        result["images"] = {"min": images[0], "max": images[-1]}
    return result


def model_json(model, runner):
    config = model.config.get_text_config()
    text = [site for site in runner.sites.values() if site.tower == "text"]
    return {"dir": str(model.config._name_or_path or type(model).__name__), "dtype": NAMES[runner.dtype],
            "parameters": sum(p.numel() for p in {id(p): p for p in model.parameters()}.values()),
            "text_layers": runner.counts["text"], "vision_blocks": runner.counts["vision"],
            "query_heads": text[0].heads if text else None, "kv_heads": text[0].kv_heads if text else None,
            "head_dim": text[0].head_dim if text else None, "hidden_size": config.hidden_size, "vocab_size": config.vocab_size}


def machine_json(model, version):
    import transformers
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"kernels": f"torch {torch.__version__} on {name}, transformers {transformers.__version__}",
            "threads": torch.get_num_threads(), "cpu": _processor_name(), "version": version, "device": str(device), "torch": torch.__version__,
            "transformers": transformers.__version__}


def _processor_name():
    """As the system calls it, like processor_name() of src/base/processors.h."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown CPU"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")


def utc_now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def safety_json(reference, tolerated):
    return {"tolerated_loss": tolerated, "right_answers": reference.correct, "right_answers_needed": right_answers_needed(0, tolerated)}
