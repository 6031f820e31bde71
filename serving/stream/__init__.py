"""The Kafka entrance: producer, consumer, ranges, dead letters.

Belongs here: from records to stored decisions and offsets. Must not be here: scoring.
"""
