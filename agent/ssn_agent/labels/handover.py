"""A label from another process to the ledger process, over a socket in the runtime directory.

One message there, JSON of `Handed`, and one back, of `LabelAnswer`: when the label is on the disk.
"""

from pathlib import Path

import zmq
from pydantic import BaseModel, ConfigDict

from ssn_agent.ledger.label_writer import Said
from ssn_contract.http import LabelAnswer, LabelSource
from ssn_contract.messages import Label

ANSWER_S = 5.0


class Handed(BaseModel):
    """A label, and the way that it came."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Label
    source: LabelSource


def hand_over(socket_file: Path, said: Said) -> LabelAnswer:
    """Have the ledger process keep a label, and wait for its answer; never raises for its absence.

    Where none comes the label may be kept all the same: said again, it is the same label.
    """
    handed = Handed(label=said.label, source=said.source)
    peer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    try:
        peer.setsockopt(zmq.LINGER, 0)
        peer.connect(f"ipc://{socket_file}")
        peer.send(handed.model_dump_json().encode())
        if not peer.poll(int(ANSWER_S * 1000)):
            problem = f"the ledger process has not answered within {ANSWER_S:g} s; say it again"
            return LabelAnswer(status="unavailable", problem=problem)
        return LabelAnswer.model_validate_json(peer.recv())
    finally:
        peer.close()
