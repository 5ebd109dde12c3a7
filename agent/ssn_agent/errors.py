"""Every error the agent raises on purpose.

    AgentError
    ├── UsageError            wrong use: exit code 2
    │   └── SettingsError     settings that do not hold together
    ├── BundleError           a bundle that is damaged, unsafe or made for another contract
    ├── ChannelError          a channel that is away, or serves what it must not
    ├── EngineError           an inference engine that does not start or answers wrongly
    ├── ImageError            bytes that are no image we can judge
    ├── CameraError           a source that does not open or stopped answering
    │   └── CameraEnded       a file source came to its end: not a fault
    ├── UpdateError           what is decided about followed bundles, or a step of theirs
    ├── ChallengeError        how a challenge stands cannot be read or written
    ├── ReplayError           a verdict that cannot be replayed for want of something
    ├── MessageError          a message from outside that is not understood
    ├── JournalError          a mapped file that is not ours or does not fit
    ├── LedgerError           the database cannot be opened, read or written
    │   └── LedgerTimeout     a question that would have read for too long
    ├── LedgerDamaged         its file holds no sound database
    ├── BrokerError           the line to the broker: certificates, the demo's broker
    ├── ProvisionError        a site's authority that cannot do what it is asked
    └── PassphraseError       a passphrase that is not there, too short, or read by others

A message says what happened, to what, and what to do. Foreign exceptions (cv2, onnxruntime,
sqlalchemy, paho, tuf) are translated in the one module that imports the library.
"""

from pydantic import ValidationError

MAX_PROBLEM = 200
"""Characters of a problem in a message of the contract (`Text`)."""


class AgentError(Exception):
    """A failure with a message meant for the person in front of it: exit code 1."""

    exit_code = 1


class UsageError(AgentError):
    """Wrong use, found before any work began: exit code 2."""

    exit_code = 2


class SettingsError(UsageError):
    """Settings with an unknown key, a wrong type or unit, or a contradiction."""


class BundleError(AgentError):
    """A bundle that cannot be trusted or used."""


class ChannelError(AgentError):
    """A channel that cannot be reached, or serves what is altered, old, or not rightly signed."""


class EngineError(AgentError):
    """An engine that does not start, or does not reproduce the bundle's vectors."""


class ImageError(AgentError):
    """Bytes that are not an image, or an image that is too large to take."""


class CameraError(AgentError):
    """A source that does not open or stopped delivering."""


class CameraEnded(CameraError):  # noqa: N818 -- an end, not an error, named like StopIteration
    """A file source has delivered its last image."""


class UpdateError(AgentError):
    """What is decided about followed bundles cannot be read or written, or a step fails."""


class ChallengeError(AgentError):
    """How a challenge stands cannot be read or written, or a request is not taken."""


class ReplayError(AgentError):
    """A verdict that cannot be replayed; the exit code says what is missing (`replay.record`)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class MessageError(AgentError):
    """A message from outside that is not what the contract says."""

    @classmethod
    def of(cls, error: ValidationError, what: str) -> "MessageError":
        """Say what is wrong with which field of `what`."""
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = (".".join([what, *map(str, p["loc"])]) + f": {p['msg']}" for p in found)
        return cls("; ".join(problems))


class JournalError(AgentError):
    """A mapped file that is damaged or belongs to another layout."""


class LedgerError(AgentError):
    """The ledger cannot be opened, read or written."""


class LedgerTimeout(LedgerError):  # noqa: N818 -- as Python names its own
    """A question that would have read the ledger for longer than it may."""


class LedgerDamaged(AgentError):  # noqa: N818 -- a state of the file, named as people call it
    """The ledger's file holds no sound database; unlike a LedgerError, waiting does not mend it."""


class BrokerError(AgentError):
    """Certificates that do not load or are not taken, or a broker that the demo does not start."""


class ProvisionError(AgentError):
    """A site's folder, its register or its key that cannot be used, or a name that cannot be."""


class PassphraseError(AgentError):
    """A passphrase that cannot be had, is too short, or is not for its owner alone."""


def short(error: AgentError) -> str:
    """Return the message as far as a message of the contract has room for it."""
    return str(error)[:MAX_PROBLEM]
