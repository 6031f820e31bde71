"""Writes the Grafana dashboards, `dashboards/*.json`. Run it after a change, and commit its output.

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
    """One panel with a query for each legend; `wide` is its width in Grafana's 24 columns."""

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
    """A share that is 0 while its numerator was never counted."""
    return f"({part} or vector(0)) / {whole}"


STATES: Final = {"0": "closed", "1": "half open", "2": "open"}

SCORING: Final = [
    Panel("Decisions", "Stored decisions over HTTP and the stream.", {"": _rate("decisions_total")}, "ops", "stat", 4),
    Panel("Latency, 99 %", "From the first byte of a request to its answer.", {"": _total(0.99)}, "s", "stat", 4),
    Panel(
        "Errors",
        "Share of answers with a 5xx status.",
        {"": _share(_rate("http_requests_total", where='{status=~"5.."}'), _rate("http_requests_total"))},
        "percentunit",
        "stat",
        4,
    ),
    Panel(
        "Degraded",
        "Share of decisions without history or model.",
        {"": _share(_rate("degraded_decisions_total"), _rate("decisions_total"))},
        "percentunit",
        "stat",
        4,
    ),
    Panel(
        "Model",
        "The champion's version.",
        {"version {{version}}": "max by (version) (fraud_model_info) == 1"},
        "none",
        "stat",
        4,
    ),
    Panel(
        "Age of training data",
        "Age of the newest training data of the oldest loaded model.",
        {"": "time() - min(fraud_model_trained_to_timestamp_seconds > 0)"},
        "s",
        "stat",
        4,
    ),
    Panel(
        "Reports",
        "The newest drift, performance and missed fraud reports on the champion.",
        {"{{report}}": "max by (report) (fraud_report_red)"},
        "short",
        "stat",
        12,
        names={"0": "green", "1": "red"},
    ),
    Panel(
        "Model made",
        "Time since the oldest loaded model was trained.",
        {"": "time() - min(fraud_model_created_timestamp_seconds > 0)"},
        "s",
        "stat",
        12,
    ),
    Panel(
        "Requests",
        "Answers by path and status.",
        {"{{route}} {{status}}": _rate("http_requests_total", by="route, status")},
        "reqps",
        stacked=True,
    ),
    Panel(
        "Latency", "Latency of all answers.", {"50 %": _total(0.5), "99 %": _total(0.99), "99.9 %": _total(0.999)}, "s"
    ),
    Panel(
        "Decisions by kind",
        "Decisions by kind, and whether model or rules decided.",
        {"{{decision}} by {{decided_by}}": _rate("decisions_total", by="decision, decided_by")},
        "ops",
        stacked=True,
    ),
    Panel(
        "Reviews and blocks",
        "Share of decisions that are a review or a block.",
        {
            "{{decision}}": _rate("decisions_total", by="decision", where='{decision!="allow"}')
            + f" / ignoring (decision) group_left () {_rate('decisions_total')}"
        },
        "percentunit",
    ),
    Panel(
        "Time by stage, 99 %",
        "Time of a micro-batch by stage; queue and total are of a request.",
        {"{{stage}}": _quantile(0.99, "stage_duration_seconds", by="stage")},
        "s",
    ),
    Panel(
        "Scores",
        "Fraud probability: mean and 99 % quantile.",
        {"mean": f"{_rate('score_sum')} / {_rate('score_count')}", "99 %": _quantile(0.99, "score")},
        "percentunit",
    ),
    Panel(
        "Refused requests", "Refused requests by reason.", {"{{reason}}": _rate("refusals_total", by="reason")}, "reqps"
    ),
    Panel(
        "Without history or model",
        "Degraded decisions, and blocks that became reviews, per second.",
        {
            "{{job}} {{mode}}": _rate("degraded_decisions_total", by="job, mode"),
            "{{job}} demoted": _rate("blocks_demoted_total", by="job"),
            "{{job}} held out": _rate("blocks_held_out_total", by="job"),
        },
        "ops",
    ),
    Panel(
        "Breakers",
        "State of the worst worker.",
        {"{{job}} {{breaker}}": "max by (job, breaker) (fraud_breaker_state)"},
        names=STATES,
    ),
    Panel(
        "Challenger and champion",
        "Decisions of both, and why the challenger was not compared; only with a challenger in shadow.",
        {
            "{{champion}}, challenger {{challenger}}": _rate("shadow_decisions_total", by="champion, challenger"),
            "not compared: {{reason}}": _rate("shadow_refused_total", by="reason"),
        },
        "ops",
    ),
    Panel(
        "Load",
        "Requests in flight, and transactions per micro-batch.",
        {
            "in flight": "sum(fraud_http_requests_in_flight)",
            "rows together": f"{_rate('micro_batch_rows_sum')} / {_rate('micro_batch_rows_count')}",
        },
    ),
    Panel("Alerts", "Firing alerts.", {}, kind="alertlist"),
]

STREAM: Final = [
    Panel(
        "Lag", "Records that were sent and not decided yet.", {"": "sum(fraud_stream_lag_records)"}, "short", "stat", 6
    ),
    Panel("Records", "Records handled per second.", {"": _rate("stream_records_total")}, "ops", "stat", 6),
    Panel(
        "Dead letters",
        "Dead letters of the last 24 hours.",
        {"": 'sum(increase(fraud_stream_records_total{outcome="dead_letter"}[1d]))'},
        "short",
        "stat",
        6,
    ),
    Panel("Consumers", "Consumers that answer Prometheus.", {"": 'sum(up{job="consumer"})'}, "short", "stat", 6),
    Panel("Lag by topic", "Records that wait, by topic.", {"{{topic}}": "sum by (topic) (fraud_stream_lag_records)"}),
    Panel(
        "Lag by partition", "Records that wait, by partition.", {"{{topic}}/{{partition}}": "fraud_stream_lag_records"}
    ),
    Panel(
        "Records by outcome",
        "Records per second by outcome.",
        {"{{outcome}}": _rate("stream_records_total", by="outcome")},
        "ops",
        stacked=True,
    ),
    Panel(
        "Time of a batch",
        "Time from poll to commit.",
        {"50 %": _quantile(0.5, "stream_batch_seconds"), "99 %": _quantile(0.99, "stream_batch_seconds")},
        "s",
    ),
    Panel(
        "Waited for",
        "1 while something is away.",
        {"{{away}}": "max by (away) (fraud_stream_waiting)"},
        names={"0": "there", "1": "away"},
    ),
    Panel("Alerts", "Firing alerts.", {}, kind="alertlist"),
]

DASHBOARDS: Final = {"scoring": ("Scoring", SCORING), "stream": ("Stream", STREAM)}


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard as Grafana's JSON."""
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
    # A version shows its label, every other number its value.
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
    """The content of a dashboard's file."""
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (HERE / f"{each}.json").write_text(text(each))
