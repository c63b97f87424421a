"""The result of an audit: Report, and the audit's HTML page."""

import html
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import _program
from .errors import Error


@dataclass
class Report:
    """What an audit or a probe found. `json` has the fields of `fovea audit --json` (docs/guide/audit.md)."""

    json: dict

    @property
    def conclusion(self):
        return self.json["conclusion"]

    @property
    def guilty(self):
        """The node to blame, or ""."""
        return (self.json["attribution_of"] or {}).get("guilty", "")

    @property
    def verdicts(self):
        """{configuration: "safe", "unsafe" or "undecided"} of a probe."""
        return {c["name"]: c.get("verdict") for c in self.json["configurations"] if not c["is_reference"]}

    @property
    def findings(self):
        """What is wrong and no matter of attention: [{kind, message, remedy}]."""
        return self.json.get("findings", [])

    def html(self):
        """The audit's page; needs the compiled part or the program `fovea`."""
        return html_of(self.json)

    def _repr_html_(self):
        """In a notebook: the page in a frame, so that its style stays its own."""
        try:
            page = self.html()
        except Error:
            return f"<pre>{html.escape(str(self))}</pre>"
        return f'<iframe srcdoc="{html.escape(page)}" style="width:100%;height:60em;border:0"></iframe>'

    def table(self):
        lines = [f"{'':24}{'right':>10}{'KL':>10}{'agree':>9}{'at risk':>10}{'largest':>10}{'verdict':>11}"]
        share = lambda value: "-" if value is None else f"{100 * value:.1f} %"
        short = lambda value: "-" if value is None else f"{value:.3g}"
        for c in self.json["configurations"]:
            risk = None if c["rows_at_risk"] is None else c["rows_at_risk"] / max(c["rows"], 1)
            right = "%d/%d" % (c["correct"], c["count"])
            lines.append(f"{c['name']:<23} {right:>10}{short(c['kl']):>10}{share(c['agreement']):>9}{share(risk):>10}"
                         f"{short(c['largest_score']):>10}{'reference' if c['is_reference'] else c.get('verdict') or '-':>11}")
        return "\n".join(lines)

    def __str__(self):
        return self.table() + "\n\n" + "\n".join(self.conclusion)


def html_of(audit):
    """The audit's page. It is made by the compiled part of this package, or by the `fovea` program (FOVEA_PROGRAM, PATH)."""
    text = json.dumps(audit, allow_nan=False)
    try:
        from . import _fovea
        return _fovea.html_report(text)
    except ImportError:
        pass
    if not _program.find():
        raise Error("not_found", "the HTML page is made by compiled code, and neither this package's nor the program `fovea` is here",
                    "install fovea with a compiler at hand, put `fovea` into PATH (or its path into FOVEA_PROGRAM), or keep the JSON (--json)")
    with tempfile.TemporaryDirectory() as folder:
        source, page = Path(folder) / "probe.json", Path(folder) / "probe.html"
        source.write_text(text)
        _program.run("report", source, "--out", page)
        return page.read_text()
