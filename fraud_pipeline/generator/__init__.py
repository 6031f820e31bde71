"""The synthetic world: customers, merchants, fraud episodes and late reports, every row a function of the seed.

Rooms: `config` the knobs, `categories`, `geography` and `story` the data, `population` who is there, `behaviour` honest
days, `episodes` stories, `rows` the one path to a transaction, `reports`, `drift_schedule`, `oracle`, `world` the source.
"""

from fraud_pipeline.generator.config import WorldConfig, drift_schedule
from fraud_pipeline.generator.drift_schedule import Drift, ScheduledDrift
from fraud_pipeline.generator.world import SyntheticWorld

__all__ = ["Drift", "ScheduledDrift", "SyntheticWorld", "WorldConfig", "drift_schedule"]
