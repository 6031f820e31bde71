"""The drift report as a page that needs no other file.

Belongs here: HTML. Must not be here: measures, plots.
"""

import base64
import html
from collections.abc import Mapping
from typing import Final

from fraud_pipeline.drift import LIMITS, DriftReport

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
    rows = "".join(
        f"<tr{' class=red' if (one.feature, one.kind) in red else ''}><td>{html.escape(one.feature)}</td>"
        f"<td>{one.baseline.replace('_', ' ')}</td><td>{one.kind}</td>"
        f"<td class=number>{one.size:.3f}</td><td class=number>{LIMITS[one.kind]:g}</td>"
        f"<td class=number>{one.q:.1g}</td></tr>"
        for one in shifts
    )
    images = "".join(
        f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for title, png in pictures.items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Drift {report.day}</title><style>{_STYLE}</style>"
        f"<h1>Drift report of {report.day}</h1>"
        f"<p class={'red' if red else 'quiet'}>{html.escape(report.summary)}</p>"
        f"<p>Champion version {html.escape(model_version)}, {report.rows:,} rows. A feature has drifted when the same "
        "measure is above its limit and beyond chance against both baselines: what the champion learned from, and the "
        f"same weekday of the weeks before.</p>{images}"
        "<table><tr><th>feature<th>baseline<th>measure"
        f"<th class=number>size<th class=number>limit<th class=number>q</tr>{rows}</table></html>\n"
    )
