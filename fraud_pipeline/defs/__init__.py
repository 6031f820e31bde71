"""The orchestration: the only package that imports dagster.

An asset body loads, calls one function of the domain, writes and returns metadata; a rule found here is in the wrong
room.
"""

import warnings

import dagster as dg

# Single-run backfills and the MLflow hook are beta in Dagster; the pinned version is tested with them.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
