"""The orchestration: the only package that imports dagster.

Belongs here: assets, checks, jobs, schedules, sensors and resources. An asset body loads, calls one function of the
domain, writes and returns metadata. Must not be here: rules and computations of the domain.
"""

import warnings

import dagster as dg

# Single-run backfills and the MLflow hook are beta in Dagster; the pinned version is tested with them.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
