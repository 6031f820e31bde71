"""Formats that all pages share: figures side by side, the legend of a map, amounts and ages in words.

Belongs here: text. Must not be here: reading, charts (`fraud_pipeline/reporting/`), pages.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import streamlit as st

from fraud_pipeline.reporting.chart_style import QUIET
from fraud_pipeline.reporting.daily_charts import STATE_COLOURS
from fraud_pipeline.schema.currencies import MINOR_DIGITS
from fraud_pipeline.schema.local_time import UTC_OFFSET, on_local_clock
from fraud_pipeline.schema.money import ORIGINAL_AMOUNT, ORIGINAL_CURRENCY

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])")


def drift_legend() -> None:
    """The legend of `drift_map`; it wraps on a phone."""
    square = f"display:inline-block;width:.8em;height:.8em;border:1px solid {QUIET};background:"
    named = STATE_COLOURS.items()
    marks = (f'<span><span style="{square}{colour}"></span> {state}</span>' for state, colour in named)
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:0 1.5em">{"".join(marks)}</div>')


def show_figures(figures: Mapping[str, str]) -> None:
    """Show figures by name, side by side as far as the page is wide enough."""
    with st.container(horizontal=True, gap="medium"):
        for label, value in figures.items():
            st.metric(label, value, width="content")


def money(cents: int) -> str:
    """An amount in currency units."""
    return f"{cents / 100:,.2f}"


def original_amount(own_fields: Mapping[str, Any]) -> str:
    """The amount in the currency in which it was paid; empty for transactions without one."""
    currency, minor_units = own_fields.get(ORIGINAL_CURRENCY), own_fields.get(ORIGINAL_AMOUNT)
    digits = MINOR_DIGITS.get(str(currency))
    if digits is None or not isinstance(minor_units, int | float):
        return ""
    return f"{minor_units / 10**digits:,.{digits}f} {currency}"


def clock(moment: datetime, own_fields: Mapping[str, Any]) -> str:
    """What the local clock showed, and its offset from UTC; UTC where no offset is known."""
    local = on_local_clock(moment, own_fields.get(UTC_OFFSET))
    return f"{local:%Y-%m-%d %H:%M:%S} UTC{local:%z}".removesuffix("+0000")


def age(seconds: float) -> str:
    """The age in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def share(part: float, whole: float) -> str:
    """A share in percent, or a dash of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def words(name: Any) -> str:
    """An identifier as people write it."""
    return str(name).replace("_", " ")


def plain(text: str) -> str:
    """Text from outside for a place that reads Markdown: an id may be written as a link or a picture."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
