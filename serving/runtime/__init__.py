"""The parts of every scoring process, assembled once.

Belongs here: assembly of the scorer, loading of the champion, degradation, shadow scoring, metrics. Must not be here:
HTTP and Kafka.
"""
