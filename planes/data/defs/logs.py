"""What runs write to the process's log; all of a run's events are in Dagster's storage anyway."""

import logging

import dagster as dg


def _warnings_logger(_context: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.getLogger("dagster.run")
    logger.setLevel(logging.WARNING)
    return logger


warnings_to_log = dg.LoggerDefinition(
    _warnings_logger, description="Warnings and errors of a run, to the process's own log."
)
