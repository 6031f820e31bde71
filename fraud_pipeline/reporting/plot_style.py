"""How every picture looks: its size, colours, axes, legends and notes, readable at 800 pixels.

Belongs here: what plots share. Must not be here: what a plot shows (`plots.py`).

Figures are objects without pyplot, whose global state is not safe in the threads of an orchestrator.
"""

import base64
import io
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

INK: Final = "#24303c"
QUIET: Final = "#8894a0"
GRID: Final = "#e6eaee"
FRAUD: Final = "#c8402f"
LEGITIMATE: Final = "#2f6ea5"
AMBER: Final = "#e9b15c"
ACCENT: Final = "#c27a12"
PAPER: Final[dict[str, Any]] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}


def markdown_image(png: bytes, *, alternative: str = "plot") -> str:
    """A picture that carries itself, for markdown in run metadata."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def empty_figure(*, rows: int = 12) -> Figure:
    """A white figure of 800 pixels, as high as `rows` of bars need."""
    figure = Figure(
        figsize=(8, max(4.5, 1.2 + 0.27 * rows)),
        dpi=100,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12),
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    return figure


def drawing(title: str, *, x: str, y: str, rows: int = 12) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = empty_figure(rows=rows)
    axes = figure.subplots()
    style_axes(axes, x=x, y=y)
    set_title(axes, title)
    return figure, axes


def style_axes(axes: Axes, *, x: str, y: str) -> None:
    """Quiet lines and readable labels."""
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=INK, labelsize=10)
    axes.set_xlabel(x, color=INK, fontsize=11)
    axes.set_ylabel(y, color=INK, fontsize=11)


def set_title(axes: Axes, text: str) -> None:
    """A title at the left."""
    axes.set_title(text, loc="left", color=INK, fontsize=13, fontweight="bold", pad=10)


def add_legend(axes: Axes) -> None:
    """A legend that hides no curve."""
    # Above the axes no curve can run through it, and the title stands on the left.
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=9, borderaxespad=0.2)


def draw_level(axes: Axes, height: float, text: str, *, color: str, at: Literal["left", "right"]) -> None:
    """A dashed line at a height, named at one end."""
    axes.axhline(height, color=color, linestyle="--", linewidth=1.2)
    axes.annotate(
        text,
        (0.01 if at == "left" else 0.99, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 5),
        textcoords="offset points",
        ha=at,
        va="bottom",
        color=color,
        fontsize=9,
        bbox=PAPER,
    )


def write_note(figure: Figure, axes: Axes, text: str) -> Figure:
    """Words in place of a curve."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=QUIET, fontsize=13)
    return figure


def as_percent(*axes: Axis) -> None:
    """Shares are read as percent."""
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))


def as_thousands(axis: Axis) -> None:
    """Large numbers have separators."""
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))


def to_png(figure: Figure) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
