"""Types of command-line arguments.

Belongs here: text to a value, with argparse's error. Must not be here: commands.
A type imports a library only when a value is given, so that `--help` loads none.
"""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fraud_pipeline.host.data_location import DataLocation, data_location, database_url
from fraud_pipeline.host.local_paths import local_path
from fraud_pipeline.ingest.column_mapping import SourceError, parse_columns


def whole_number(text: str) -> int:
    """A whole number of 1 or more. Raises argparse's error for anything else."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return number


def column_pairs(text: str) -> str:
    """A column mapping as it was typed. Raises argparse's error for one that cannot be read."""
    try:
        parse_columns(text)
    except SourceError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def duration(text: str) -> timedelta:
    """A time span such as 7d, 36h or 30min. Raises argparse's error for anything else."""
    import pandas as pd  # noqa: PLC0415 - half a second

    span = pd.to_timedelta(text, errors="coerce")
    # pandas takes a number without a unit for nanoseconds.
    if pd.isna(span) or span < pd.Timedelta(0) or text.strip()[-1].isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no time span; write for example 7d or 36h")
    return span.to_pytimedelta()


def path(text: str) -> Path:
    """A path of this machine."""
    try:
        return local_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def location(text: str) -> DataLocation:
    """A path of this machine, or a URL of an object store."""
    try:
        return data_location(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def database(text: str) -> str:
    """The URL of a bank's database, without a password."""
    try:
        return database_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def instant(text: str) -> datetime:
    """A date or time of ISO 8601, UTC without an offset. Raises argparse's error for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 2024-01-01 or 2024-01-01T00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def time_zone(text: str) -> str:
    """The name of a time zone, or OWN_OFFSETS. Raises argparse's error for a zone that is not known."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - not for --help

    if text == "offset":
        return text
    try:
        return ZoneInfo(text).key
    except (KeyError, ValueError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time zone; write a name such as Europe/Berlin, or offset for each time's own"
        ) from None
