"""Writes the Grafana dashboards, `dashboards/*.json`: run it after a change, and commit what it wrote.

Belongs here: which panels, their queries, units and places. Must not be here: any library, thresholds that wake people
(`deploy/prometheus/alerts.yml`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

HERE: Final = Path(__file__).resolve().parent / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a query for each legend; `wide` is in Grafana's columns, of which there are 24."""

    title: str
    meaning: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "alertlist"] = "timeseries"
    wide: int = 12
    stacked: bool = False
    names: dict[str, str] | None = None


def _rate(metric: str, *, by: str = "", where: str = "") -> str:
    grouped = f" by ({by}) " if by else ""
    return f"sum{grouped}(rate(fraud_{metric}{where}[$__rate_interval]))"


def _quantile(share: float, metric: str, *, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', by=labels, where=where)})"


def _total(share: float) -> str:
    return _quantile(share, "stage_duration_seconds", where='{stage="total"}')


def _share(part: str, whole: str) -> str:
    """Nought while nothing of the part was ever counted."""
    return f"({part} or vector(0)) / {whole}"


STATES: Final = {"0": "closed", "1": "half open", "2": "open"}

SCORING: Final = [
    Panel("Decisions", "Made and stored, of all entrances.", {"": _rate("decisions_total")}, "ops", "stat", 4),
    Panel("Latency, 99 %", "From the first byte to the answer.", {"": _total(0.99)}, "s", "stat", 4),
    Panel(
        "Errors",
        "Answers that are errors of ours.",
        {"": _share(_rate("http_requests_total", where='{status=~"5.."}'), _rate("http_requests_total"))},
        "percentunit",
        "stat",
        4,
    ),
    Panel(
        "Degraded",
        "Decisions without history or model.",
        {"": _share(_rate("degraded_decisions_total"), _rate("decisions_total"))},
        "percentunit",
        "stat",
        4,
    ),
    Panel(
        "Model",
        "The version that decides.",
        {"version {{version}}": "max by (version) (fraud_model_info) == 1"},
        "none",
        "stat",
        4,
    ),
    Panel(
        "Learned until",
        "How old the newest data is that the oldest loaded model knows.",
        {"": "time() - min(fraud_model_trained_to_timestamp_seconds > 0)"},
        "s",
        "stat",
        4,
    ),
    Panel(
        "Reports",
        "Of the champion: the newest drift report, and the newest performance report.",
        {"{{report}}": "max by (report) (fraud_report_red)"},
        "short",
        "stat",
        12,
        names={"0": "green", "1": "red"},
    ),
    Panel(
        "Model made",
        "How long ago the oldest loaded model was made.",
        {"": "time() - min(fraud_model_created_timestamp_seconds > 0)"},
        "s",
        "stat",
        12,
    ),
    Panel(
        "Requests",
        "Answered, by path.",
        {"{{route}} {{status}}": _rate("http_requests_total", by="route, status")},
        "reqps",
        stacked=True,
    ),
    Panel("Latency", "Of all answers.", {"50 %": _total(0.5), "99 %": _total(0.99), "99.9 %": _total(0.999)}, "s"),
    Panel(
        "Decisions by kind",
        "What was decided, and who decided.",
        {"{{decision}} by {{decided_by}}": _rate("decisions_total", by="decision, decided_by")},
        "ops",
        stacked=True,
    ),
    Panel(
        "Reviews and blocks",
        "Share of the decisions that doubt.",
        {
            "{{decision}}": _rate("decisions_total", by="decision", where='{decision!="allow"}')
            + f" / ignoring (decision) group_left () {_rate('decisions_total')}"
        },
        "percentunit",
    ),
    Panel(
        "Time by stage, 99 %",
        "Of a micro-batch; queue and total of a request.",
        {"{{stage}}": _quantile(0.99, "stage_duration_seconds", by="stage")},
        "s",
    ),
    Panel(
        "Scores",
        "Fraud probability: its mean, and what one in a hundred exceeds.",
        {"mean": f"{_rate('score_sum')} / {_rate('score_count')}", "99 %": _quantile(0.99, "score")},
        "percentunit",
    ),
    Panel("Turned away", "Requests refused, by reason.", {"{{reason}}": _rate("refusals_total", by="reason")}, "reqps"),
    Panel(
        "Without history or model",
        "Degraded decisions, and blocks that became reviews.",
        {
            "{{job}} {{mode}}": _rate("degraded_decisions_total", by="job, mode"),
            "{{job}} demoted": _rate("blocks_demoted_total", by="job"),
            "{{job}} held out": _rate("blocks_held_out_total", by="job"),
        },
        "ops",
    ),
    Panel(
        "Breakers",
        "The worst worker speaks for all.",
        {"{{job}} {{breaker}}": "max by (job, breaker) (fraud_breaker_state)"},
        names=STATES,
    ),
    Panel(
        "Challenger beside champion",
        "How often both decided so, and why the challenger was not compared; only with a challenger in shadow.",
        {
            "{{champion}}, challenger {{challenger}}": _rate("shadow_decisions_total", by="champion, challenger"),
            "not compared: {{reason}}": _rate("shadow_refused_total", by="reason"),
        },
        "ops",
    ),
    Panel(
        "Load",
        "Requests being answered, and transactions scored together.",
        {
            "in flight": "sum(fraud_http_requests_in_flight)",
            "rows together": f"{_rate('micro_batch_rows_sum')} / {_rate('micro_batch_rows_count')}",
        },
    ),
    Panel("Alerts", "What fires now.", {}, kind="alertlist"),
]

STREAM: Final = [
    Panel("Waiting records", "Sent and not decided on.", {"": "sum(fraud_stream_lag_records)"}, "short", "stat", 6),
    Panel("Records", "Handled, of all kinds.", {"": _rate("stream_records_total")}, "ops", "stat", 6),
    Panel(
        "Dead letters",
        "In the last 24 hours.",
        {"": 'sum(increase(fraud_stream_records_total{outcome="dead_letter"}[1d]))'},
        "short",
        "stat",
        6,
    ),
    Panel("Consumers", "That answer.", {"": 'sum(up{job="consumer"})'}, "short", "stat", 6),
    Panel("Lag by topic", "Records that wait.", {"{{topic}}": "sum by (topic) (fraud_stream_lag_records)"}),
    Panel("Lag by partition", "Each has one owner.", {"{{topic}}/{{partition}}": "fraud_stream_lag_records"}),
    Panel(
        "Records by outcome",
        "What became of them.",
        {"{{outcome}}": _rate("stream_records_total", by="outcome")},
        "ops",
        stacked=True,
    ),
    Panel(
        "Time of a batch",
        "From the poll to the commit.",
        {"50 %": _quantile(0.5, "stream_batch_seconds"), "99 %": _quantile(0.99, "stream_batch_seconds")},
        "s",
    ),
    Panel(
        "Waited for",
        "1 while something is away.",
        {"{{away}}": "max by (away) (fraud_stream_waiting)"},
        names={"0": "there", "1": "away"},
    ),
    Panel("Alerts", "What fires now.", {}, kind="alertlist"),
]

DASHBOARDS: Final = {"scoring": ("Scoring", SCORING), "stream": ("Stream", STREAM)}


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    drawn: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, start=1):
        height = 4 if panel.kind == "stat" else 8
        drawn.append(_drawn(panel, number=number, place={"x": x, "y": y, "w": panel.wide, "h": height}))
        x += panel.wide
        if x >= WIDTH:
            x, y = 0, y + height
    return {
        "uid": f"fraud-{name}",
        "title": title,
        "tags": ["fraud-detect"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "links": [{"type": "dashboards", "title": "Others", "tags": ["fraud-detect"], "asDropdown": False}],
        "panels": drawn,
    }


def _drawn(panel: Panel, *, number: int, place: dict[str, int]) -> dict[str, Any]:
    common = {"id": number, "type": panel.kind, "title": panel.title, "description": panel.meaning, "gridPos": place}
    if panel.kind == "alertlist":
        return common | {"options": {"alertName": "", "stateFilter": {"firing": True, "pending": True}}}
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.stacked else {"fillOpacity": 0}
    mappings = [{"type": "value", "options": {value: {"text": text} for value, text in (panel.names or {}).items()}}]
    defaults = {"unit": panel.unit, "mappings": mappings if panel.names else [], "min": 0}
    if panel.kind == "timeseries":
        defaults |= {"custom": {"lineWidth": 1, "showPoints": "never", **custom}}
    # A version is told by its label, every other number by its value.
    text = {"textMode": "name"} if panel.unit == "none" else {}
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", **text}
    return common | {
        "datasource": SOURCE,
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend or "__auto", "datasource": SOURCE}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options if panel.kind == "stat" else {"legend": {"displayMode": "list", "placement": "bottom"}},
    }


def text(name: str) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (HERE / f"{each}.json").write_text(text(each))
