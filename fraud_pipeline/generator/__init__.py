"""The synthetic world: customers, merchants, fraud episodes and late reports, every row a function of the seed.

Rooms: `config` the knobs; `categories`, `geography`, `story` and `drift_schedule` the data; `population` who is there;
`behaviour` honest days; `episodes` stories; `rows` the one path to a transaction; `reports`; `oracle` and its
`story_filter` the ceiling; `world` the source. Belongs here: nothing but the public names.
"""

from fraud_pipeline.generator.config import WorldConfig, drift_schedule
from fraud_pipeline.generator.drift_schedule import Drift, ScheduledDrift
from fraud_pipeline.generator.world import SyntheticWorld

__all__ = ["Drift", "ScheduledDrift", "SyntheticWorld", "WorldConfig", "drift_schedule"]
