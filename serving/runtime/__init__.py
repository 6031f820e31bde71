"""What every scoring process needs, put together once.

Belongs here: the assembly of the scorer, the champion that serves, degradation, shadow scoring, metrics. Must not be
here: HTTP and Kafka.
"""
