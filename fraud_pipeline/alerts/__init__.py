"""Alerts: the analysts' queue and the webhook.

Belongs here: the analysts' work on alerts, and notification of other systems. Must not be here: the decision that
raises an alert, pages.
"""
