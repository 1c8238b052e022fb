"""Prometheus, Grafana and the collector of docker-compose.yml name what there is."""

import json
import re
from typing import Any

import yaml

from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from tests.architecture.compose import FILES, SERVICES

_DASHBOARD = json.loads((FILES / "grafana/dashboards/polyplane.json").read_text("utf-8"))
_COLLECTOR: dict[str, Any] = yaml.safe_load((FILES / "otel-collector.yaml").read_text("utf-8"))
_PROMETHEUS: dict[str, Any] = yaml.safe_load((FILES / "prometheus.yml").read_text("utf-8"))


def _targets() -> set[str]:
    jobs = [job for job in _PROMETHEUS["scrape_configs"] if job["job_name"] != "prometheus"]
    return {target for job in jobs for each in job["static_configs"] for target in each["targets"]}


def test_prometheus_asks_where_metrics_are() -> None:
    collector = _COLLECTOR["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]
    spans = _COLLECTOR["exporters"]["prometheus"]["endpoint"].partition(":")[2]
    assert _targets() == {
        f"gateway:{GatewaySettings.model_fields['admin_port'].default}",
        f"otel-collector:{collector['prometheus']['port']}",
        f"otel-collector:{spans}",
    }
    for target in _targets():
        assert "observability" in SERVICES[target.partition(":")[0]]["networks"]


def test_the_serving_plane_sends_its_spans_to_the_collector() -> None:
    port = _COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"].partition(":")[2]
    address = SERVICES["serving"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert address == f"http://otel-collector:{port}"
    assert "observability" in SERVICES["serving"]["networks"]


def test_pipelines_of_the_collector_are_made_of_parts_that_are_configured() -> None:
    for pipeline in _COLLECTOR["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            known = {**_COLLECTOR[kind], **_COLLECTOR["connectors"]}
            assert set(pipeline.get(kind, ())) <= known.keys()


def test_the_dashboard_shows_metrics_that_the_gateway_has_by_labels_that_they_have() -> None:
    labels = {
        sample_name: set(collector._labelnames)  # type: ignore[attr-defined]
        for collector, names in GatewayMetrics().registry._collector_to_names.items()
        for sample_name in names
    }
    expressions = [target["expr"] for panel in _DASHBOARD["panels"] for target in panel["targets"]]
    ours = [text for text in expressions if "polyplane_" in text and "traces_" not in text]
    assert len(ours) > 5
    for expression in ours:
        (name,) = set(re.findall(r"polyplane_\w+", expression))
        used = {
            label
            for group in re.findall(r"by \(([^)]*)\)", expression)
            for label in group.split(", ")
        }
        used |= set(re.findall(r"(\w+)=\"", expression))
        assert used - {"le"} <= labels[name]


def test_the_dashboard_reads_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((FILES / "grafana/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert {panel["datasource"]["uid"] for panel in _DASHBOARD["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


def test_spans_are_counted_under_the_names_that_the_dashboard_reads() -> None:
    connector = _COLLECTOR["connectors"]["spanmetrics"]
    prefix = connector["namespace"].replace(".", "_")
    unit = {"ms": "milliseconds", "s": "seconds"}[connector["histogram"]["unit"]]
    text = json.dumps(_DASHBOARD)
    named = set(re.findall(r"traces_\w+", text))
    assert named == {f"{prefix}_duration_{unit}_bucket", f"{prefix}_calls_total"}
