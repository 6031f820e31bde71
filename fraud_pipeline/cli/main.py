"""The entry point of `fraud-detect`.

Belongs here: running one command, errors in one line. Must not be here: commands and their options (`parser.py`).
"""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from fraud_pipeline.cli.parser import Command, build_parser

_TESTS = Command("shell_commands", "test")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. An error that a person can correct is one line, not a traceback."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.run != _TESTS:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.pytest = rest
    _start_logging()
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ModuleNotFoundError, OSError, ValueError, RuntimeError) as error:
        print(f"fraud-detect: {_in_one_line(error)}", file=sys.stderr)
        return 1


def _start_logging() -> None:
    """Configure logging from the settings. Invalid settings are reported by the command that needs them."""
    from fraud_pipeline.host.logs import configure_logging  # noqa: PLC0415 - not for --help
    from fraud_pipeline.settings import load_settings  # noqa: PLC0415 - not for --help

    with suppress(ValueError, OSError):
        settings = load_settings()
        configure_logging(settings.log_format, settings.log_level)


def _in_one_line(error: Exception) -> str:
    """The problem and its remedy. Raises the error where the fault is in this program."""
    # These take time to import, and most commands need none of them.
    from fraud_pipeline.host.os_errors import in_words  # noqa: PLC0415
    from fraud_pipeline.settings import in_one_line  # noqa: PLC0415

    if isinstance(error, ModuleNotFoundError):
        if (error.name or "").split(".")[0] in ("fraud_pipeline", "serving"):
            raise error
        return f"{error.name}: not installed; run pip install 'fraud-pipeline[training,serving,dashboard]'"
    return in_words(error) if isinstance(error, OSError) else in_one_line(error)


if __name__ == "__main__":
    sys.exit(main())
