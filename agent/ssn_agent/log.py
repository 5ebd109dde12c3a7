"""Structured logs on standard error: one JSON object a line, or readable lines on a terminal.

Where that is systemd's journal, each line begins with its priority (sd-daemon(3)), so that
`journalctl -p warning` finds it. Warnings of Python libraries, and exceptions that nobody caught,
are such lines, too. What a native library writes by itself (FFmpeg, OpenCV, ONNX Runtime), and the
traceback of a process that is aborted, comes as it is.
"""

import logging
import os
import sys
import threading
from types import TracebackType

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure(level: str, process: str) -> None:
    """Set up the logs of this process, in all its threads."""

    def add_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {"process": process, **event}

    structlog.configure(
        processors=[
            add_process,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.root.handlers = [_Foreign()]
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def logger() -> FilteringBoundLogger:
    """Return the logger."""
    return structlog.get_logger()  # type: ignore[no-any-return]  # structlog leaves it open


def goes_to_journal() -> bool:
    """Say whether standard error is systemd's journal: it names the stream that it gave us."""
    stream = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def _renderer() -> Processor:
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer()
    as_json = structlog.processors.JSONRenderer()
    if not goes_to_journal():
        return as_json

    def with_priority(_: WrappedLogger, name: str, event: EventDict) -> str:
        return f"<{_PRIORITIES[event['level']]}>{as_json(_, name, event)!s}"

    return with_priority


class _Foreign(logging.Handler):
    """What libraries say through Python's own logs, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        library = record.name
        logger().log(level, record.getMessage(), library=library, exc_info=record.exc_info)


def _uncaught(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    logger().critical("a fault of the agent's", exc_info=(kind, error, traceback))
