"""From a new transaction to a stored decision, for every entrance.

Belongs here: the scorer, the decision record, reasons, the history cache, the database's copy of history. Must not be
here: HTTP, Kafka, settings; `serving/runtime` assembles a scorer from them.
"""
