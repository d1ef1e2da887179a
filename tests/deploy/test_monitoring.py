"""Dashboard and alert rules, against what the gateway really exports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from prometheus_client.core import Metric

from cluster.serving.values import ModelFacts
from services.gateway.metrics import Metrics
from services.gateway.problem_kinds import KINDS
from services.scoring.counters import BatcherCounters
from tests.deploy.files import DEPLOY, documents
from tests.services.in_process_model import InProcessModels

FOLDER = DEPLOY / "monitoring"
BOARD: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
RULES: list[dict[str, Any]] = documents(FOLDER / "alerts.yaml")[0]["groups"][0]["rules"]
OF_THE_SCRAPE = {"job", "instance"}
VARIABLES = {"$job": "onlinevpo", "$instance": ".*", "$model": ".*", "$__rate_interval": "5m"}


class Ready:
    """A model that only says how it is."""

    facts: ModelFacts
    is_ready, queued = True, 0
    counters = BatcherCounters(batch_sizes=Counter({2: 1}))


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The labels of every series that the gateway exports, by name, after one of each has happened."""
    metrics = Metrics(InProcessModels({"shapes": Ready()}))  # type: ignore[dict-item]
    metrics.request("/v1/score", "POST", 200, 0.1)
    metrics.item("shapes", "scored", queue_ms=1, inference_ms=1)
    metrics.video("decoded")
    families: Iterator[Metric] = metrics.registry.collect()
    found: dict[str, set[str]] = {"up": set()}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return {name: labels | OF_THE_SCRAPE for name, labels in found.items()}


def expressions() -> list[tuple[str, str]]:
    of_panels = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    return [*of_panels, *((rule["alert"], rule["expr"]) for rule in RULES)]


def parsed(expression: str) -> Any:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return promql_parser.parse(expression)


def parts(expression: Any) -> Iterator[Any]:
    """An expression and all that it is made of."""
    yield expression
    inner = [getattr(expression, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for one in [*inner, *(getattr(expression, "args", None) or [])]:
        if one is not None:
            yield from parts(one)


def selectors(expression: str) -> list[Any]:
    return [one for one in parts(parsed(expression)) if isinstance(one, promql_parser.VectorSelector)]


each_expression = pytest.mark.parametrize(("where", "expression"), expressions(), ids=lambda value: value[:40])


@each_expression
def test_every_metric_and_label_is_one_that_the_gateway_exports(
    where: str, expression: str, exported: dict[str, set[str]]
) -> None:
    found = selectors(expression)
    assert found
    for selector in found:
        assert selector.name in exported, f"{where}: there is no {selector.name}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in exported[selector.name], f"{where}: {selector.name} has no label {matcher.name}"


@each_expression
def test_what_is_grouped_by_is_a_label_of_what_is_grouped(
    where: str, expression: str, exported: dict[str, set[str]]
) -> None:
    for part in parts(parsed(expression)):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            for selector in (one for one in parts(part) if isinstance(one, promql_parser.VectorSelector)):
                assert set(part.modifier.labels) <= exported[selector.name], where


@each_expression
def test_a_counter_is_read_as_a_rate_and_a_gauge_is_not(where: str, expression: str) -> None:
    for part in parts(parsed(expression)):
        if isinstance(part, promql_parser.Call) and part.func.name == "rate":
            assert part.args[0].vector_selector.name.endswith(("_total", "_bucket", "_count", "_sum")), where
    rated = {id(one.vector_selector) for one in parts(parsed(expression)) if hasattr(one, "vector_selector")}
    plain = [one.name for one in selectors(expression)] if not rated else []
    assert not [name for name in plain if name.endswith(("_total", "_bucket"))], where


@each_expression
def test_outcomes_that_are_asked_for_exist(where: str, expression: str) -> None:
    for selector in selectors(expression):
        for matcher in selector.matchers.matchers:
            if matcher.name == "outcome":
                assert set(matcher.value.split("|")) <= {"scored", "decoded", *KINDS}, where


def test_every_metric_is_on_the_dashboard(exported: dict[str, set[str]]) -> None:
    shown = {selector.name for panel in PANELS for target in panel["targets"] for selector in selectors(target["expr"])}
    histograms = {name.removesuffix("_bucket") for name in exported if name.endswith("_bucket")}
    of_histograms = {f"{name}{suffix}" for name in histograms for suffix in ("_sum", "_count")}
    needed = {name for name in exported if not name.endswith("_created")} - of_histograms - {"up"}
    assert needed - shown == set()


def test_the_dashboard_names_no_data_source_of_its_own_and_panels_do_not_overlap() -> None:
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) and all(panel["description"] and panel["title"] for panel in PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_variables_that_are_used_are_defined() -> None:
    defined = {f"${variable['name']}" for variable in BOARD["templating"]["list"]}
    assert set(VARIABLES) - {"$__rate_interval"} <= defined


def test_an_alert_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"].endswith(".")
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
