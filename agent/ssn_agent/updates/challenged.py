"""Whether a bundle on probation fails the challenge of a camera that it judges."""

from ssn_agent.errors import ChallengeError
from ssn_agent.inference.challenge_state import challenge_file, read_standing
from ssn_agent.settings import Settings


def failed_challenge(settings: Settings, follows: str, digest: str) -> str | None:
    """Say which camera's challenge this bundle has failed; None: none that is known.

    While a challenge stands failed the camera's parts are INVALID(challenge), which a probation
    counts for neither side: so it would wait for ever.
    """
    for name, camera in settings.cameras.items():
        if camera.challenge is None or camera.follow != follows:
            continue
        try:
            standing = read_standing(challenge_file(settings.data_dir, name))
        except ChallengeError:
            continue  # inference has it due anew, and says so
        if standing is None or standing.state != "failed":
            continue
        for event in reversed(standing.events):
            if event.item is not None and event.is_right is False and event.bundle_digest == digest:
                verdict = "nothing" if event.verdict is None else event.verdict.value
                item = event.item
                return f"{name}: fails its challenge: {item.name} is {item.expected}, and {verdict}"
    return None
