"""The station's figures as Prometheus reads them. Names and units by its conventions."""

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ssn_contract.messages import CameraStatus, ProcessStatus
from ssn_contract.metrics import BrokerCertificates, CameraMetrics, Durations, StationMetrics

CAMERA_STATES = get_args(CameraStatus.model_fields["state"].annotation)
PROCESS_STATES = get_args(ProcessStatus.model_fields["state"].annotation)


def registry(
    read: Callable[[], StationMetrics], deadlines_s: Mapping[str, float]
) -> CollectorRegistry:
    """Return what makes the figures anew for each scrape: all of one moment.

    deadlines_s: of each camera, by its settings.
    """
    made = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=made)  # of the supervisor, which serves this: since when it runs
    made.register(_Station(read, deadlines_s))
    return made


class _Station(Collector):
    def __init__(
        self, read: Callable[[], StationMetrics], deadlines_s: Mapping[str, float]
    ) -> None:
        self._read = read
        self._deadlines_s = deadlines_s

    def collect(self) -> Iterator[Metric]:
        metrics = self._read()
        yield from _station(metrics)
        yield from _messages(metrics)
        yield from _labels(metrics)
        yield from _cameras(metrics.cameras)
        yield from _latencies(metrics.cameras, self._deadlines_s)
        yield from _processes(metrics)


def _station(m: StationMetrics) -> Iterator[Metric]:
    info = _gauge("ssn_agent_info", "1, with the agent's version.", ["station", "version"])
    info.add_metric([m.station, m.agent], 1)
    yield info
    yield _one("ssn_alarms", "Alarms at present; their texts are on `status`.", len(m.alarms))
    if m.report_age_s is not None:
        text = "How old is what the ledger process said of cameras, ledger and broker."
        yield _one("ssn_report_age_seconds", text, m.report_age_s)
    yield _one("ssn_ledger_up", "1 where the ledger can be written.", m.ledger == "ok")
    yield _one("ssn_broker_connected", "1 where it is.", bool(m.broker_connected))
    yield _certificates(m.broker_certificates)
    if m.disk_free_bytes is not None and m.disk_size_bytes is not None:
        yield _one("ssn_disk_free_bytes", "Room for the ledger's file system.", m.disk_free_bytes)
        yield _one("ssn_disk_size_bytes", "Size of the ledger's file system.", m.disk_size_bytes)


def _certificates(found: BrokerCertificates | None) -> Metric:
    text = "When a certificate of the line to the broker ends."
    ends = _gauge("ssn_broker_certificate_expires_timestamp_seconds", text, ["certificate"])
    for name, end in () if found is None else found:
        if end is not None:
            ends.add_metric([name], end.timestamp())
    return ends


def _labels(m: StationMetrics) -> Iterator[Metric]:
    if m.labels is None:
        return
    labelled = _gauge("ssn_labelled_verdicts", "Verdicts by their newest label.", ["label"])
    labelled.add_metric(["good"], m.labels.good)
    labelled.add_metric(["bad"], m.labels.bad)
    yield labelled
    text = "Labelled verdicts on which people, or the newest label and the agent, disagree."
    yield _one("ssn_label_disagreements", text, m.labels.disagreements)


def _messages(m: StationMetrics) -> Iterator[Metric]:
    if m.undelivered is not None:
        text = "Messages committed and not yet acknowledged by the broker."
        yield _one("ssn_undelivered_messages", text, m.undelivered)
    for name, text, count in (
        ("ssn_published_messages", "Messages that the broker has acknowledged.", m.published),
        ("ssn_undeliverable_messages", "Messages given up; the log says why.", m.undeliverable),
        ("ssn_refused_triggers", "Triggers by MQTT that were not understood.", m.refused_triggers),
        ("ssn_refused_labels", "Labels by MQTT that were not taken.", m.refused_labels),
    ):
        if count is not None:
            yield CounterMetricFamily(name, text, value=count)
    for name, text, durations in (
        ("ssn_commit_duration_seconds", "Transactions of the ledger.", m.commit),
        (
            "ssn_delivery_delay_seconds",
            "From trigger to the broker's acknowledgement of the verdict.",
            m.delivery,
        ),
    ):
        if durations is not None:
            histogram = HistogramMetricFamily(name, text)
            _add_durations(histogram, [], durations)
            yield histogram


_INPUT_COUNTERS = {
    "received_frames": "Frames that came, whole or not.",
    "incomplete_frames": "Frames that came damaged or failed in the camera.",
    "missed_frames": "Frames that the camera counted and that never came.",
    "discarded_frames": "Frames whose trigger no longer waited.",
    "malformed_messages": "Messages to the camera not understood.",
    "reconnects": "Times that the camera was opened again after a fault.",
}


def _cameras(cameras: list[CameraMetrics]) -> Iterator[Metric]:
    info = _gauge(
        "ssn_camera_info",
        "1, with what judges the camera's frames, and the epoch of its numbers.",
        ["camera", "bundle", "version", "digest", "engine", "epoch"],
    )
    update = _gauge(
        "ssn_camera_update_info",
        "1, with the newest step of the bundle that the camera follows.",
        ["camera", "step", "bundle", "version", "digest"],
    )
    stepped = _gauge("ssn_camera_update_timestamp_seconds", "When that step was taken.")
    state = _gauge("ssn_camera_state", "1 for the state that it is in.", ["camera", "state"])
    triggers = _counter("ssn_triggers", "Triggers counted: verdicts and pending.")
    verdicts = _counter("ssn_verdicts", "Verdicts; INVALID by reason.", ["verdict", "reason"])
    pending = _gauge("ssn_pending_triggers", "Triggers without a verdict in the ledger.")
    inputs = {field: _counter(f"ssn_{field}", text) for field, text in _INPUT_COUNTERS.items()}
    of = ["camera", "product", "statistic"]
    drift = _gauge("ssn_drift_median", "Of the last parts, where these are enough.", of)
    drifts = _gauge("ssn_drifts", "1: it drifts from the bundle's good images.", of)
    last = _gauge("ssn_last_verdict_timestamp_seconds", "When the newest verdict was decided.")
    for c in cameras:
        name = c.camera
        bundle = ["", "", ""] if c.bundle is None else list(dict(c.bundle).values())
        info.add_metric([name, *bundle, c.engine or "", str(c.epoch)], 1)
        if c.update is not None:
            update.add_metric([name, c.update.step, *dict(c.update.bundle).values()], 1)
            stepped.add_metric([name], c.update.at.timestamp())
        for known in CAMERA_STATES:
            state.add_metric([name, known], c.state == known)
        triggers.add_metric([name], c.triggers)
        verdicts.add_metric([name, "PASS", ""], c.passed)
        verdicts.add_metric([name, "FAIL", ""], c.failed)
        for reason, count in c.invalid.items():
            verdicts.add_metric([name, "INVALID", reason.value], count)
        pending.add_metric([name], c.pending)
        for field, counter in inputs.items():
            counter.add_metric([name], getattr(c, field))
        for d in c.drift or ():
            labels = [name, d.product or "", d.statistic]
            drifts.add_metric(labels, d.since is not None)
            if d.median is not None:
                drift.add_metric(labels, d.median)
        if c.last is not None:
            last.add_metric([name], c.last.decided_at.timestamp())
    counts = (triggers, verdicts, pending, *inputs.values())
    yield from (info, update, stepped, state, *counts, drift, drifts, last)


def _latencies(cameras: list[CameraMetrics], deadlines_s: Mapping[str, float]) -> Iterator[Metric]:
    latency = HistogramMetricFamily(
        "ssn_verdict_latency_seconds", "From trigger to verdict.", labels=["camera"]
    )
    # A histogram's buckets are too wide to tell how near to a deadline its quantiles are.
    recent = _gauge(
        "ssn_recent_latency_seconds", "Of the last 1000 verdicts.", ["camera", "quantile"]
    )
    deadline = _gauge("ssn_deadline_seconds", "From trigger to when a verdict is late.")
    for c in cameras:
        _add_durations(latency, [c.camera], c.latency)
        for quantile, value in (("0.5", c.latency.median_s), ("0.99", c.latency.p99_s)):
            if value is not None:
                recent.add_metric([c.camera, quantile], value)
        if c.camera in deadlines_s:
            deadline.add_metric([c.camera], deadlines_s[c.camera])
    yield from (latency, recent, deadline)


def _processes(m: StationMetrics) -> Iterator[Metric]:
    state = _gauge("ssn_process_state", "1 for the state that it is in.", ["process", "state"])
    restarts = CounterMetricFamily(
        "ssn_process_restarts", "Processes replaced.", labels=["process", "reason"]
    )
    memory = _gauge("ssn_process_memory_bytes", "Resident memory that is not shared.", ["process"])
    for p in m.processes:
        for known in PROCESS_STATES:
            state.add_metric([p.name, known], p.state == known)
        for reason in ("died", "hung", "over_memory"):
            restarts.add_metric([p.name, reason], getattr(p, reason))
        if p.memory_bytes is not None:
            memory.add_metric([p.name], p.memory_bytes)
    yield from (state, restarts, memory)


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, labels: list[str] | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels or ["camera"])


def _counter(name: str, text: str, labels: list[str] | None = None) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=["camera", *(labels or [])])


def _add_durations(into: HistogramMetricFamily, labels: list[str], durations: Durations) -> None:
    buckets = [*durations.buckets.items(), ("+Inf", durations.count)]
    into.add_metric(labels, buckets, durations.sum_s)
