"""Structured logs on standard error: one JSON object a line, or readable lines on a terminal."""

import logging
import sys

import structlog


def configure(level: str, process: str) -> None:
    """Set up the logs of this process."""
    renderer: structlog.typing.Processor
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    else:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger."""
    return structlog.get_logger()  # type: ignore[no-any-return]  # structlog leaves it open
