"""The style of every chart, and its picture: Vega-Lite to PNG of 800 pixels width, without a browser.

Belongs here: colours, parts that charts share, pictures. Must not be here: content of charts (`model_charts.py`,
`daily_charts.py`).
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

import altair as alt
import pandas as pd

Chart = Any  # every step of Altair's gives another type

INK: Final = "#24303c"
QUIET: Final = "#66727e"
GRID: Final = "#e6eaee"
FRAUD: Final = "#c8402f"
LEGITIMATE: Final = "#2f6ea5"
AMBER: Final = "#e9b15c"
ACCENT: Final = "#c27a12"
WIDTH: Final = 800
HEIGHT: Final = 450
ONE_ROW: Final = pd.DataFrame({"row": [0]})
"""The data of elements that are drawn once. Altair drops a row without columns, and then nothing is drawn."""
_TEXT: Final = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 13}
_CONFIG: Final = {
    "view": {"stroke": None},
    "axis": {"gridColor": GRID, "domainColor": QUIET, "tickColor": QUIET, "titleFontWeight": "normal", **_TEXT},
    "legend": {**_TEXT, "labelLimit": 420},
    "title": {"anchor": "start", "color": INK, "fontSize": 16, "offset": 10},
}


def to_png(chart: Chart) -> bytes:
    """The picture of a chart; its height is the chart's, or 450 pixels."""
    import vl_convert  # noqa: PLC0415 - 80 MB that a dashboard, which shows the charts themselves, does without

    spec: dict[str, Any] = chart.to_dict()
    spec |= {"config": _CONFIG, "background": "white", "padding": 12}
    if any(kind in spec for kind in ("concat", "vconcat", "hconcat")):
        width = float(vl_convert.vegalite_to_svg(spec).split('width="')[1].split('"')[0])
        # Half a pixel more, for the renderer rounds down.
        return bytes(vl_convert.vegalite_to_png(spec, scale=(WIDTH + 0.5) / width))
    spec |= {"width": WIDTH, "height": spec.get("height", HEIGHT), "autosize": {"type": "fit", "contains": "padding"}}
    return bytes(vl_convert.vegalite_to_png(spec))


def markdown_image(png: bytes, *, alternative: str = "plot") -> str:
    """A picture that carries itself, for markdown in run metadata."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def note(title: str, text: str) -> Chart:
    """Words in place of a curve."""
    return alt.Chart(ONE_ROW, title=title).mark_text(text=text, color=QUIET, fontSize=16)


def named_colours(colours: Mapping[str, str], *, field: str = "name") -> alt.Color:
    """A colour for each name in this column, with a legend above the chart."""
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=alt.Legend(orient="top", direction="horizontal"))


def level(value: float, text: str, *, color: str, right: bool = False) -> Chart:
    """A dashed line at a height, named at one end."""
    base = alt.Chart(ONE_ROW).encode(y=alt.datum(value))
    x = alt.value("width") if right else alt.value(0)
    text_mark = base.mark_text(
        text=text, color=color, align="right" if right else "left", dx=-4 if right else 4, dy=-7, fontSize=12
    )
    return alt.layer(base.mark_rule(color=color, strokeDash=[5, 4]), text_mark.encode(x=x))


def percent(values: list[float] | None = None) -> alt.Axis:
    """Shares are read as percent."""
    return alt.Axis(format="~%") if values is None else alt.Axis(format="~%", values=values)
