"""Reports about the champion as pages that need no other file.

Belongs here: HTML. Must not be here: measures, plots.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from fraud_pipeline.monitoring.drift import LIMITS, DriftReport
from fraud_pipeline.monitoring.missed_fraud import MissedFraudReport

Colour = Literal["red", "amber", "quiet"]

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24303c; background: white }
body { max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.4em } p.red { border-left: 4px solid #c8402f; padding-left: .8em }
p.amber { border-left: 4px solid #c27a12; padding-left: .8em }
p.quiet { border-left: 4px solid #2f6ea5; padding-left: .8em }
table { border-collapse: collapse; width: 100% } td, th { padding: .2em .6em; border-bottom: 1px solid #e6eaee }
td { font-variant-numeric: tabular-nums } th { text-align: left } .number { text-align: right }
tr.red { background: #fbeae7; font-weight: 600 } tr.amber { background: #fdf3e1 }
img { max-width: 100%; margin: 1em 0 }
"""


def drift_page(report: DriftReport, pictures: Mapping[str, bytes], *, model_version: str) -> str:
    """One day's report: the finding, the pictures (PNG by title) and every shift, the largest first."""
    findings = report.findings
    rows = (
        _row(
            [shift.feature, shift.baseline.replace("_", " "), shift.kind, findings[shift.feature, shift.kind]],
            [f"{shift.size:.3f}", f"{LIMITS[shift.kind]:g}", f"{shift.q:.1g}"],
            colour=_colour(findings[shift.feature, shift.kind]),
        )
        for shift in report.ranked
    )
    return _page(
        f"Drift report of {report.day}",
        report.summary,
        f"Champion version {model_version}, {report.rows:,} rows. A feature has drifted when the same measure is above "
        "its limit and beyond chance against both baselines: what the champion learned from, and the same weekday of "
        "the weeks before. Red rows are drift. Amber rows are above their limit in one comparison only, or within "
        "chance: they turn no day red.",
        pictures,
        colour="amber" if report.not_judged else "red" if report.drifted else "quiet",
        table=[_row(["feature", "baseline", "measure", "finding"], ["size", "limit", "q"], cell="th"), *rows],
    )


def missed_fraud_page(report: MissedFraudReport, pictures: Mapping[str, bytes]) -> str:
    """One day's report: the finding, the pictures (PNG by title), the groups and the newest transactions."""
    groups = (
        _row([f"{group.segment}: {group.name}"], [f"{group.incidents:,}", f"{group.expected:.1f}"])
        for group in report.groups
    )
    since = f"since {report.since}" if report.surge else ""
    return _page(
        f"Missed fraud, report of {report.day}",
        report.summary,
        "An incident is reported fraud of one customer, as far as the champion allowed it. As many are expected as the "
        f"days before, from {report.first} on, had after the same time.",
        pictures,
        colour="red" if report.red else "quiet",
        table=[_row([since], ["reported", "expected"], cell="th"), *groups],
        beneath=f"Newest: {', '.join(report.examples)}" if report.examples else "",
    )


def _page(
    title: str,
    verdict: str,
    how: str,
    pictures: Mapping[str, bytes],
    *,
    colour: Colour,
    table: Iterable[str],
    beneath: str = "",
) -> str:
    images = "".join(
        f'<img alt="{html.escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for name, png in pictures.items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p class={colour}>{html.escape(verdict)}</p>"
        f"<p>{html.escape(how)}</p>{images}<table>{''.join(table)}</table><p>{html.escape(beneath)}</p></html>\n"
    )


def _row(words: Sequence[str], numbers: Sequence[str], *, colour: str = "", cell: str = "td") -> str:
    cells = [f"<{cell}>{html.escape(word)}</{cell}>" for word in words]
    cells += [f"<{cell} class=number>{number}</{cell}>" for number in numbers]
    return f"<tr{f' class={colour}' if colour else ''}>{''.join(cells)}</tr>"


def _colour(finding: str) -> str:
    return {"drift": "red", "": ""}.get(finding, "amber")
