"""Prometheus metrics of a service, in a registry of its own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dgin_tf.serving.online.ranker import Report

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_AGES = (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)


class Metrics:
    """Counts and times of requests.

    Args:
      pending: gives the number of requests that wait or run.
      version: gives the number of the version that answers by default.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, pending: Callable[[], int], version: Callable[[], int]):
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "dgin_requests", "Requests by route and status.", ["route", "code"], registry=registry
        )
        self.seconds = Histogram(
            "dgin_request_seconds",
            "Time of a request, its body being read.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._parts = Histogram(
            "dgin_part_seconds",
            "Time of a part: queue (waiting for a thread), state, score.",
            ["part"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "dgin_batch_rows", "Users of a call of the model.", buckets=_ROWS, registry=registry
        )
        self._states = Counter(
            "dgin_states",
            "States by source and result: cached, encoded or unknown (of an unknown user).",
            ["source", "result"],
            registry=registry,
        )
        self._age = Histogram(
            "dgin_state_age_seconds",
            "Time since the newest event in the state of a request.",
            buckets=_AGES,
            registry=registry,
        )
        self._cut = Counter(
            "dgin_events_cut",
            "Events of histories that were longer than counts.",
            registry=registry,
        )
        self.rejected = Counter(
            "dgin_rejected",
            "Requests given up by reason: queue, deadline, body, token, connections.",
            ["reason"],
            registry=registry,
        )
        self.events = Counter(
            "dgin_events", "Events by result: applied or refused.", ["result"], registry=registry
        )
        queue = Gauge("dgin_pending_requests", "Requests that wait or run.", registry=registry)
        queue.set_function(pending)
        number = Gauge("dgin_default_version", "Version that answers.", registry=registry)
        number.set_function(version)

    def observe_part(self, part: str, seconds: float) -> None:
        """Adds the time of a part of a request."""
        self._parts.labels(part).observe(seconds)

    def observe_report(self, report: Report) -> None:
        """Adds what was done for a rank request."""
        for part, seconds in report.seconds.items():
            self.observe_part(part, seconds)
        lookup = report.lookup
        result = "cached" if lookup.is_cached else "encoded"
        self._states.labels(lookup.source, result if lookup.is_known else "unknown").inc()
        if report.state_age is not None:
            self._age.observe(report.state_age)
        if lookup.cut:
            self._cut.inc(lookup.cut)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)
