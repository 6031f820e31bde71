"""The only Kafka adapter.

Belongs here: clients, topics, how a message is written, patches of kafka-python. Must not be here: what a message
means.
"""
