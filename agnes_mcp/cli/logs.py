"""Logs: one JSON object a line on standard error, without values of data and without secrets."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum

from agnes_mcp.serving.repeats import Repeats


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


#: Libraries that write whole answers, rows included, when they are asked for details.
_TALKATIVE = ("mcp", "sse_starlette", "httpx2", "httpcore2", "urllib3", "google")


class JsonLines(logging.Formatter):
    """time, level, logger, message, and for a crash the trace."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def log_to_stderr(level: Level = Level.WARNING) -> None:
    """Set up logging for this process. Standard output belongs to the protocol."""
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(JsonLines())
    stderr.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[stderr], force=True)
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
