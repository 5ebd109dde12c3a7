"""A scrape of the endpoint, read by Prometheus' own parser."""

from dataclasses import dataclass
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Scrape:
    """All samples of one answer."""

    samples: list[Sample]
    kinds: dict[str, str]
    """Of each family, by its name."""

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum over the samples of a name that have these labels."""
        return sum(
            s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of each sample of a name."""
        return [sample.labels for sample in self.samples if sample.name == name]

    def assert_counts_add_up(self) -> None:
        """Every trigger has its one verdict, or is pending, in this one answer."""
        for labels in self.labels("ssn_triggers_total"):
            closed = self.sum("ssn_verdicts_total", **labels)
            pending = self.sum("ssn_pending_triggers", **labels)
            assert self.sum("ssn_triggers_total", **labels) == closed + pending


def scrape(port: int) -> Scrape:
    """Ask as Prometheus does. Raises OSError where nothing answers."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return Scrape([s for f in families for s in f.samples], {f.name: f.type for f in families})
