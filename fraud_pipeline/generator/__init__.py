"""The synthetic world: customers, merchants, fraud episodes and late reports. The seed decides every row.

Modules: `config` has the parameters; `categories`, `geography`, `story` and `drift_schedule` hold data; `population`
makes customers and merchants; `behaviour` makes ordinary purchases; `episodes` makes fraud and events that look like
it; `rows` turns intents into transactions; `reports` makes fraud reports; `oracle` and `story_filter` compute the best
possible score; `world` is the source.
Belongs here: the public names. Must not be here: features, models.
"""

from fraud_pipeline.generator.config import WorldConfig, drift_schedule, first_day_of_history
from fraud_pipeline.generator.drift_schedule import Drift, ScheduledDrift
from fraud_pipeline.generator.world import SyntheticWorld

__all__ = ["Drift", "ScheduledDrift", "SyntheticWorld", "WorldConfig", "drift_schedule", "first_day_of_history"]
