"""From a score to allow, review or block.

Belongs here: costs, thresholds, rules, the holdout. Must not be here: models, databases, entrances.
"""
