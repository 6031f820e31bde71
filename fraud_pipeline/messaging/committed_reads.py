"""A patch of kafka-python: a consumer sees the last stable offset of a partition as its end.

Belongs here: changes to kafka-python's parsing of fetches. Must not be here: which records are read (the option
`isolation_level` decides that), the lag.

A broker answers a fetch with two ends of a partition: the end of its log, and the *last stable offset*, before which
every transaction is committed or aborted. The library keeps only the first one. A lag up to it would count records of
an open transaction, which a consumer may not read yet.
"""

from typing import Any

from kafka import KafkaConsumer


def end_at_stable_offsets(consumer: KafkaConsumer) -> None:
    """Make `consumer.highwater` return the last stable offset, if the broker gives one."""
    fetcher = consumer._fetcher  # noqa: SLF001 - the library has no public access
    parse = fetcher._parse_fetched_data  # noqa: SLF001 - as above

    def parse_to_stable_offset(fetch: Any) -> Any:
        partition = fetch.partition_data
        if 0 <= partition.last_stable_offset < partition.high_watermark:
            partition.high_watermark = partition.last_stable_offset
        return parse(fetch)

    fetcher._parse_fetched_data = parse_to_stable_offset  # noqa: SLF001 - as above
