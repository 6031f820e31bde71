"""The HTTP entrance.

Belongs here: requests, answers, endpoints, limits, the description of the API. Must not be here: scoring.
"""
