"""What `ssn-agent status` prints of a station's metrics."""

from pathlib import Path

from rich.console import Console

from ssn_agent.metrics.view import render
from ssn_contract.metrics import StationMetrics

GOLDEN = Path(__file__).parents[1] / "contract/golden/metrics/valid/before-the-first-verdict.json"


def test_settings_that_want_a_restart_are_named() -> None:
    metrics = StationMetrics.model_validate_json(GOLDEN.read_bytes())
    assert metrics.settings is not None
    settings = metrics.settings.model_copy(update={"wants_restart": ["broker.port"]})
    console = Console(width=200)
    with console.capture() as printed:
        console.print(render(metrics.model_copy(update={"settings": settings})))
    assert "wants a restart: broker.port" in printed.get()
