"""A station with the HTTP API: labelled over it, and the API's process is replaced when it dies."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from support.agent import station
from support.http_api import ask, write_token
from support.mosquitto import Mosquitto, answers, free_port
from support.waiting import wait_until


@pytest.mark.needs("mosquitto")
def test_a_verdict_is_labelled_over_http_also_after_the_api_was_killed(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    source = {"kind": "line", "seed": 1, "fps": 5}
    port = free_port()
    with station(tmp_path, mosquitto.port, source=source) as agent:
        agent.top["http"] = {"port": port, "token_file": str(write_token(tmp_path))}
        agent.start()
        wait_until(lambda: agent.verdicts() >= 2, 60, "no verdicts")
        wait_until(lambda: answers(port), 60, "the API does not answer")
        agent.child("labels").kill()

        def newest() -> dict[str, object]:
            with suppress(OSError):
                answer = ask(port, "GET", "/v1/verdicts?limit=1")
                if answer.status == 200:
                    return dict(answer.json["entries"][0])
            return {}

        wait_until(lambda: bool(newest()), 60, "the API does not come back")
        key = {name: newest()[name] for name in ("camera", "epoch", "sequence")}
        label = {**key, "label": "good", "labeller": "m.weber", "id": "tablet-1"}
        assert ask(port, "POST", "/v1/labels", json.dumps(label)).status == 201
        assert agent.query("SELECT label, source FROM labels") == [("good", "http")]
        assert agent.stop() == 0, agent.log()
        assert not answers(port)
