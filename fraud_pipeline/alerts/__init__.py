"""Alerts: the analysts' queue and the webhook.

Belongs here: what analysts do with alerts, and telling other systems of them. Must not be here: the decision that
raises an alert, pages.
"""
