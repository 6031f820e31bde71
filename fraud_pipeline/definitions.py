"""The definitions that Dagster loads: `defs`, and `build_defs` for other settings and other resources."""

import dagster as dg

from fraud_pipeline.defs.build import build_defs

__all__ = ["build_defs", "defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of the deployment that the environment describes, made when they are loaded."""
    return build_defs()
