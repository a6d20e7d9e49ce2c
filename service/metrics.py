"""What `/metrics` tells Prometheus: counters of this process, and gauges read from the database at each visit."""

from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy.orm import Session

from store.queries import deliveries


class Metrics:
    """The metrics of one application: tests and processes do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "cachescope_request_seconds",
            "Seconds to answer a request, by route and status class.",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.uploads = Counter(
            "cachescope_uploads_total",
            "Uploads by outcome: accepted, repeated, refused.",
            ("outcome",),
            registry=self.registry,
        )
        self.upload_bytes = Counter(
            "cachescope_upload_bytes_total", "Bytes of accepted logs after decompression.", registry=self.registry
        )
        self.hooks = Counter(
            "cachescope_hooks_total",
            "Webhooks by outcome: accepted, repeated, refused.",
            ("outcome",),
            registry=self.registry,
        )
        self.bad_signatures = Counter(
            "cachescope_bad_signatures_total",
            "Webhooks whose signature did not hold, by source; unknown sources share one label.",
            ("source",),
            registry=self.registry,
        )
        self.held_off = Counter(
            "cachescope_sign_ins_held_off_total",
            "Sign-ins that were refused unread, because too many from the same address had failed.",
            registry=self.registry,
        )
        self.redactions = Counter(
            "cachescope_redactions_total", "Secrets taken out of accepted logs.", registry=self.registry
        )
        self.deliveries = Gauge(
            "cachescope_deliveries", "Deliveries in the database by state.", ("state",), registry=self.registry
        )
        self.oldest_waiting = Gauge(
            "cachescope_oldest_waiting_seconds",
            "Age of the oldest delivery that waits for a worker.",
            registry=self.registry,
        )
        self.visible = Gauge(
            "cachescope_upload_to_visible_seconds",
            "Seconds from the arrival of a log to its builds being visible, over the last 15 minutes.",
            ("quantile",),
            registry=self.registry,
        )

    def render(self, session: Session) -> bytes:
        """Read what only the database knows and write everything in Prometheus' text format."""
        now = datetime.now(UTC)
        for state, count in deliveries.count_by_state(session).items():
            self.deliveries.labels(state).set(count)
        oldest = deliveries.find_oldest_waiting(session)
        self.oldest_waiting.set((now - oldest).total_seconds() if oldest else 0)
        seconds = sorted(deliveries.load_waiting_seconds(session, since=now - timedelta(minutes=15), limit=1000))
        for quantile in (0.5, 0.95):
            at = min(len(seconds) - 1, int(len(seconds) * quantile))
            self.visible.labels(str(quantile)).set(seconds[at] if seconds else float("nan"))
        return generate_latest(self.registry)
