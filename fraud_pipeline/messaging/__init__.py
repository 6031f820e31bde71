"""The only Kafka adapter.

Belongs here: clients, topics, the layout of messages, patches of kafka-python. Must not be here: the meaning of
messages.
"""
