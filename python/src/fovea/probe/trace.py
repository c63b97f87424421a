"""Watches the layers of one run: drift from the reference run over the same tokens, and on a few rows the largest scores
and the error of the attention itself; the rows and the sums are those of src/audit/layer_trace.h."""

import math

import torch

from .attention import examine
from .runner import Stopped, non_finite_node
from .statistics import wide

ROWS_EXAMINED = 32
BYTES_PER_LAYER = 8 << 20  # of reference rows
_SUMMED = ("at_risk", "overflows", "measured", "kernel_error", "spread", "predicted_error")


class LayerSums:
    """Sums over rows and questions of one layer; errors are quotients of them."""

    def __init__(self, tower, layer):
        self.tower, self.layer = tower, layer
        self.attention_all, self.attention_answer, self.hidden_all, self.hidden_answer = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
        self.rows, self.heads = None, {}  # per head: f64 tensors

    def add_heads(self, sums, rows):
        if self.rows is None:
            self.rows = torch.zeros_like(sums["largest"])
            self.heads = {name: torch.zeros_like(sums["largest"]) for name in ("largest", *_SUMMED)}
        self.rows += rows
        self.heads["largest"] = torch.maximum(self.heads["largest"], sums["largest"])
        for name in _SUMMED:
            if name in sums:
                self.heads[name] += sums[name]

    def add(self, other):
        for name in ("attention_all", "attention_answer", "hidden_all", "hidden_answer"):
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, [mine[0] + theirs[0], mine[1] + theirs[1]])
        if other.rows is not None:
            self.add_heads(other.heads, other.rows)

    def total(self, name):
        if self.rows is None:
            return 0.0
        return float(self.heads["largest"].max()) if name == "largest" else float(self.heads[name].sum())

    @property
    def row_count(self):
        return 0 if self.rows is None else int(self.rows.sum())


def relative(error):
    return math.sqrt(error[0] / error[1]) if error[1] > 0 else None


def add_layers(sums, more):
    for layer in more:
        same = next((s for s in sums if (s.tower, s.layer) == (layer.tower, layer.layer)), None)
        if same is None:
            same = LayerSums(layer.tower, layer.layer)
            sums.append(same)
        same.add(layer)
    sums.sort(key=lambda s: (s.tower != "vision", s.layer))


class ReferenceRows:
    """Rows of the reference run, thinned out so that they fit into a bound."""

    def __init__(self, rows, width, answer_start):
        self.answer_start = min(answer_start, rows)
        answers = rows - self.answer_start
        room = max(BYTES_PER_LAYER // (width * 4) - answers, 1)
        self.stride = max((self.answer_start + room - 1) // room, 1)
        self.kept = {}  # by the first row of a call

    def chosen(self, first, count):
        """Of rows first .. first + count - 1: those that are kept, as indices into them."""
        return [row - first for row in range(first, first + count) if row >= self.answer_start or row % self.stride == 0]


def require_finite(site, query, key, value, out, visibility, scale, nodes):
    if out.isfinite().all():
        return
    node = non_finite_node(query, key, value, out, visibility, scale, nodes)
    where = "vision block" if site.tower == "vision" else "decoder layer"
    raise Stopped(f"{where} {site.layer}, {node} ({nodes.kind}, {nodes.scores if node == 'scores' else nodes.output}): "
                  "a NaN or infinite value appeared")


class FiniteOnly:
    """Measures nothing, but a NaN still ends the run."""

    def attended(self, *call):
        require_finite(*call)

    def finished(self, *_):
        pass


class Trace:
    """`reference`: a dict that the reference run fills and the others compare with; None without drift."""

    def __init__(self, rows, answer_start, reference=None, keeping=False, towers=("vision", "text")):
        self.rows, self.answer_start, self.reference, self.keeping = rows, answer_start, reference, keeping
        self.layers, self.attended_rows, self.finished_rows, self.positions, self.towers = {}, {}, {}, 0, towers

    def _sums(self, site):
        return self.layers.setdefault((site.tower, site.layer), LayerSums(site.tower, site.layer))

    def examines(self, tower, row):
        answer_start = self.answer_start[tower]
        if row >= answer_start:
            return row - answer_start < max(ROWS_EXAMINED // 8, 1)
        step = max(answer_start // ROWS_EXAMINED, 1)
        return row % step == step - 1

    def attended(self, site, query, key, value, out, visibility, scale, nodes):
        require_finite(site, query, key, value, out, visibility, scale, nodes)
        if site.tower not in self.towers:
            return
        sums, place = self._sums(site), (site.tower, site.layer)
        first, count = self.attended_rows.get(place, 0), query.shape[2]
        rows = [row for row in range(count) if self.examines(site.tower, first + row)]
        if rows:
            sums.add_heads(examine(query, key, value, out, visibility, rows, scale, nodes, self.reference is not None), float(len(rows)))
        if self.reference is not None:
            self._drift(("attention", *place), first, out[0].reshape(count, -1), sums.attention_all, sums.attention_answer)
        self.attended_rows[place] = first + count

    def finished(self, site, hidden):
        if self.reference is None or site.tower not in self.towers:
            return
        place = (site.tower, site.layer)
        first = self.finished_rows.get(place, 0)
        sums = self._sums(site)
        self._drift(("hidden", *place), first, hidden, sums.hidden_all, sums.hidden_answer)
        self.finished_rows[place] = first + hidden.shape[0]

    def _drift(self, place, first, values, everywhere, answer):
        tower = place[1]
        if self.keeping and place not in self.reference:
            self.reference[place] = ReferenceRows(self.rows[tower], values.shape[1], self.answer_start[tower])
        kept = self.reference.get(place)
        if kept is None:
            return
        chosen = kept.chosen(first, values.shape[0])
        if not chosen:
            return
        mine = values[torch.tensor(chosen, device=values.device)]
        if self.keeping:
            kept.kept[first] = mine.float().cpu()
        reference = kept.kept[first].to(device=values.device, dtype=wide(values.device))
        difference = ((mine.to(reference.dtype) - reference) ** 2).sum(-1).tolist()
        norms = (reference ** 2).sum(-1).tolist()
        for index, d, n in zip(chosen, difference, norms):
            everywhere[0] += d
            everywhere[1] += n
            if first + index >= kept.answer_start:
                answer[0] += d
                answer[1] += n

    def sums(self):
        return sorted(self.layers.values(), key=lambda s: (s.tower != "vision", s.layer))
