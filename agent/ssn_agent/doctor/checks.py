"""All checks, in the order in which a person reads them; docs/doctor.md has a line of each."""

from ssn_agent.doctor.agent import agent
from ssn_agent.doctor.broker import broker
from ssn_agent.doctor.cameras import cameras
from ssn_agent.doctor.channel import channel
from ssn_agent.doctor.clock import clock
from ssn_agent.doctor.disk import disk
from ssn_agent.doctor.files import folders, http_token, settings_file, tls_files
from ssn_agent.doctor.findings import Check
from ssn_agent.doctor.ledger import ledger
from ssn_agent.doctor.memory import memory
from ssn_agent.doctor.models import bundles, engines
from ssn_agent.doctor.service import service
from ssn_agent.doctor.software import runtime, software

CHECKS: dict[str, Check] = {
    "settings file": settings_file,
    "agent": agent,
    "service": service,
    "cameras": cameras,
    "bundles": bundles,
    "engines": engines,
    "channel": channel,
    "broker": broker,
    "TLS files": tls_files,
    "HTTP token": http_token,
    "folders": folders,
    "disk": disk,
    "ledger": ledger,
    "memory": memory,
    "clock": clock,
    "versions": software,
    "runtime": runtime,
}
