"""Types of command-line arguments.

Belongs here: text to a value, with argparse's error. Must not be here: commands.
"""

import argparse
from datetime import timedelta

import pandas as pd


def duration(text: str) -> timedelta:
    """A time span such as 7d, 36h or 30min. Raises argparse's error for anything else."""
    span = pd.to_timedelta(text, errors="coerce")
    # pandas takes a number without a unit for nanoseconds.
    if pd.isna(span) or span < pd.Timedelta(0) or text.strip()[-1].isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no time span; write for example 7d or 36h")
    return span.to_pytimedelta()
