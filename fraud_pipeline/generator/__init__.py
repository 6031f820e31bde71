"""The synthetic world: customers, merchants, fraud episodes and late reports, every row a function of the seed.

Modules: `config` holds the settings; `categories`, `geography`, `story` and `drift_schedule` hold data; `population`
makes customers and merchants; `behaviour` honest days; `episodes` frauds; `rows` the one way to a transaction;
`reports` and `world` the source; `oracle` and `story_filter` the best possible score.
Belongs here: the public names. Must not be here: features, models.
"""

from fraud_pipeline.generator.config import WorldConfig, drift_schedule
from fraud_pipeline.generator.drift_schedule import Drift, ScheduledDrift
from fraud_pipeline.generator.world import SyntheticWorld

__all__ = ["Drift", "ScheduledDrift", "SyntheticWorld", "WorldConfig", "drift_schedule"]
