"""Prometheus' own programs, and the metrics that queries of our rules and dashboards select.

Belongs here: finding `promtool` and `prometheus`, reading queries. Must not be here: assertions.

The programs are those on the PATH, or Debian's, unpacked below build/ without being installed.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARDS: Final = ROOT / "deploy" / "grafana" / "dashboards"
_UNPACKED: Final = ROOT / "build" / "prometheus-debian"


@dataclass(frozen=True, slots=True)
class Query:
    """A query, its place, and the labels that its legend or message shows."""

    where: str
    text: str
    shown: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of an exposition, with the labels that Prometheus adds."""

    name: str
    labels: Mapping[str, str]


def program(name: str) -> Path:
    """`promtool` or `prometheus`; the test is skipped with the reason where neither is available."""
    if path := shutil.which(name):
        return Path(path)
    if not _UNPACKED.exists():
        if shutil.which("apt-get") is None:
            pytest.skip(f"{name} is not on the PATH, and there is no Debian to get it from")
        _UNPACKED.parent.mkdir(exist_ok=True)
        # Complete or absent: several tests may install it at once.
        with tempfile.TemporaryDirectory(dir=_UNPACKED.parent) as partial:
            for command in (["apt-get", "download", "--quiet", "prometheus"], ["sh", "-c", "dpkg-deb -x *.deb files"]):
                done = subprocess.run(command, cwd=partial, capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"{name} is not on the PATH, and cannot be had: {' '.join(done.stderr.split()[-12:])}")
            if not _UNPACKED.exists():
                Path(partial, "files").rename(_UNPACKED)
    return _UNPACKED / "usr" / "bin" / name


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of the file and the panel, of all dashboards."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            yield file.name, panel


def queries() -> list[Query]:
    """Every query of rules and dashboards, as Prometheus gets it."""
    expressions = [
        Query(rule["alert"], rule["expr"], frozenset(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])))
        for rule in rules()
    ]
    for file, panel in panels():
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "5m")
            shown = frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            expressions.append(Query(f"{file}: {panel['title']}", text, shown))
    return expressions


def selectors(query: str) -> list[promql.VectorSelector]:
    """The metrics that a query selects."""
    return [node for node in _nodes(promql.parse(query)) if isinstance(node, promql.VectorSelector)]


def kept_labels(query: str) -> set[str]:
    """The labels that aggregations keep."""
    aggregations = [node for node in _nodes(promql.parse(query)) if isinstance(node, promql.AggregateExpr)]
    return {label for node in aggregations if node.modifier for label in node.modifier.labels}


def selected(selector: promql.VectorSelector, samples: Iterable[Sample]) -> list[Sample]:
    """The samples that a selector takes."""
    return [
        sample
        for sample in samples
        if sample.name == selector.name
        and all(_matches(matcher, sample.labels.get(matcher.name, "")) for matcher in selector.matchers.matchers)
    ]


def samples(exposition: str, *, job: str) -> list[Sample]:
    """The samples that Prometheus stores of an exposition."""
    added = {"job": job, "instance": f"{job}:1"}
    return [
        Sample(sample.name, sample.labels | added)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    ] + [Sample("up", added)]


def _matches(matcher: Any, value: str) -> bool:
    exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
    same = value == matcher.value if exact else re.fullmatch(matcher.value, value) is not None
    return same == (matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re))


def _nodes(expression: Any) -> Iterator[Any]:
    yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
        below = getattr(expression, name, None)
        for child in below if isinstance(below, list) else [below] if below is not None else []:
            yield from _nodes(child)
