"""Reports about the champion as pages that need no other file.

Belongs here: HTML. Must not be here: measures, plots.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fraud_pipeline.drift import LIMITS, DriftReport
from fraud_pipeline.missed_fraud import MissedFraudReport

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24303c; max-width: 60em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.4em } p.red { border-left: 4px solid #c8402f; padding-left: .8em }
p.quiet { border-left: 4px solid #2f6ea5; padding-left: .8em }
table { border-collapse: collapse; width: 100% } td, th { padding: .2em .6em; border-bottom: 1px solid #e6eaee }
td { font-variant-numeric: tabular-nums } th { text-align: left } .number { text-align: right }
tr.red { background: #fbeae7 }
img { max-width: 100%; margin: 1em 0 }
"""


def drift_page(report: DriftReport, pictures: Mapping[str, bytes], *, model_version: str) -> str:
    """One day's report: the finding, the pictures (PNG by title) and every shift, the largest first."""
    red = {(shift.feature, shift.kind) for shift in report.drifted}
    shifts = sorted(report.shifts, key=lambda one: ((one.feature, one.kind) not in red, -one.size / LIMITS[one.kind]))
    rows = (
        _row(
            [one.feature, one.baseline.replace("_", " "), one.kind],
            [f"{one.size:.3f}", f"{LIMITS[one.kind]:g}", f"{one.q:.1g}"],
            red=(one.feature, one.kind) in red,
        )
        for one in shifts
    )
    return _page(
        f"Drift report of {report.day}",
        report.summary,
        f"Champion version {model_version}, {report.rows:,} rows. A feature has drifted when the same measure is above "
        "its limit and beyond chance against both baselines: what the champion learned from, and the same weekday of "
        "the weeks before.",
        pictures,
        red=bool(red),
        table=[_row(["feature", "baseline", "measure"], ["size", "limit", "q"], cell="th"), *rows],
    )


def missed_fraud_page(report: MissedFraudReport, pictures: Mapping[str, bytes]) -> str:
    """One day's report: the finding, the pictures (PNG by title), the groups and the newest transactions."""
    groups = (
        _row([f"{one.segment}: {one.name}"], [f"{one.incidents:,}", f"{one.expected:.1f}"]) for one in report.groups
    )
    since = f"since {report.since}" if report.surge else ""
    return _page(
        f"Missed fraud, report of {report.day}",
        report.summary,
        "An incident is reported fraud of one customer, as far as the champion allowed it. As many are expected as the "
        f"days before, from {report.first} on, had after the same time.",
        pictures,
        red=report.red,
        table=[_row([since], ["reported", "expected"], cell="th"), *groups],
        beneath=f"Newest: {', '.join(report.examples)}" if report.examples else "",
    )


def _page(
    title: str,
    told: str,
    how: str,
    pictures: Mapping[str, bytes],
    *,
    red: bool,
    table: Iterable[str],
    beneath: str = "",
) -> str:
    images = "".join(
        f'<img alt="{html.escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for name, png in pictures.items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p class={'red' if red else 'quiet'}>{html.escape(told)}</p>"
        f"<p>{html.escape(how)}</p>{images}<table>{''.join(table)}</table><p>{html.escape(beneath)}</p></html>\n"
    )


def _row(words: Sequence[str], numbers: Sequence[str], *, red: bool = False, cell: str = "td") -> str:
    cells = [f"<{cell}>{html.escape(word)}</{cell}>" for word in words]
    cells += [f"<{cell} class=number>{number}</{cell}>" for number in numbers]
    return f"<tr{' class=red' if red else ''}>{''.join(cells)}</tr>"
