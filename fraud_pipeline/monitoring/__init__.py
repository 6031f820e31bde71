"""Monitoring of the champion model in production.

Belongs here: drift, performance on matured labels, missed fraud, the skew audit; pure functions over frames. Must not
be here: schedules, plots, alerts.
"""
