"""Topics are built and taken apart in one way, and strange ones are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_contract import Topics
from ssn_contract.manifest import NAME_PATTERN
from ssn_contract.messages import HeatmapRef
from ssn_contract.topics import ParsedTopic, Station, parse_camera_topic

NAMES = st.from_regex(NAME_PATTERN.replace("$", r"\Z"), fullmatch=True)
STATIONS = st.builds(Station, site=NAMES, line=NAMES, station=NAMES)
SEQUENCES = st.integers(1, 2**53 - 1)
LONGEST = Station(site="s" * 64, line="l" * 64, station="b" * 64)


@given(STATIONS, NAMES, SEQUENCES)
def test_a_camera_topic_is_taken_apart_into_what_it_was_built_from(
    station: Station, camera: str, sequence: int
) -> None:
    topics = Topics(station)
    plain = ParsedTopic(station, camera, "verdict", None)
    assert parse_camera_topic(topics.verdict(camera)) == plain
    assert parse_camera_topic(topics.model(camera)).kind == "model"
    assert parse_camera_topic(topics.challenge(camera)).kind == "challenge"
    assert parse_camera_topic(topics.trigger(camera)).kind == "trigger"
    heatmap = ParsedTopic(station, camera, "heatmap", sequence)
    assert parse_camera_topic(topics.heatmap(camera, sequence)) == heatmap


@given(STATIONS, NAMES)
def test_no_two_topics_of_a_station_are_the_same(station: Station, camera: str) -> None:
    topics = Topics(station)
    own = [topics.status, topics.metrics, topics.label, topics.command]
    of_camera = [topics.verdict(camera), topics.model(camera), topics.trigger(camera)]
    of_camera.append(topics.challenge(camera))
    every = [*own, *of_camera, topics.heatmap(camera, 1)]
    assert len(set(every)) == len(every)
    for topic in own:
        with pytest.raises(ValueError, match="is not a camera topic"):
            parse_camera_topic(topic)


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a camera topic"):
        parse_camera_topic(text)


@pytest.mark.parametrize(
    "topic",
    [
        "ssn/v2/plant/line/box/top/verdict",
        "ssn/v1/plant/line/box/top/verdict/",
        "ssn/v1/plant/line/box/top/verdict\n",
        "/ssn/v1/plant/line/box/top/verdict",
        "ssn/v1/plant/line/box/verdict",
        "ssn/v1/plant/line/box/top/left/verdict",
        "ssn/v1/plant/line/box/top/verdict/1",
        "ssn/v1/plant/line/box/top/heatmap",
        "ssn/v1/plant/line/box/top/heatmap/",
        "ssn/v1/plant/line/box/top/heatmap/0",
        "ssn/v1/plant/line/box/top/heatmap/01",
        "ssn/v1/plant/line/box/top/heatmap/-1",
        "ssn/v1/plant/line/box/top/heatmap/٣",  # a digit to Python
        "ssn/v1/plant/line/box/top/heatmap/" + "9" * 5000,
        "ssn/v1/plant/line/box/+/verdict",
        "ssn/v1/plant//box/top/verdict",
        "ssn/v1/Plant/line/box/top/verdict",
    ],
)
def test_a_topic_that_is_almost_ours_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="is not a camera topic"):
        parse_camera_topic(topic)


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "Top", "-top", "t" * 65, "top\n", "ö"])
def test_a_level_that_would_break_a_topic_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="site"):
        Station(site=name)


def test_the_longest_names_fit_into_a_message() -> None:
    topic = Topics(LONGEST).heatmap("c" * 64, 2**53 - 1)
    assert HeatmapRef(topic=topic, file="", x=0, y=0, width=1, height=1).topic == topic
