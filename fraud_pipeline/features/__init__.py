"""The only feature code: training, HTTP and stream call the same function.

Belongs here: the engineer, feature definitions, statistics per entity, hashes of feature code and values. Must not be
here: reading or writing of tables, databases, models.
"""
