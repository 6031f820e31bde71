"""Senders' transactions: a consumer sees where the records end that are committed, as it reads no others.

Belongs here: what reaches into kafka-python's reading of fetches. Must not be here: which records are read (the option
`isolation_level` decides that), what a lag is.

A broker answers a fetch with two ends of a partition: the end of its log, and the *last stable offset*, before which
every transaction is committed or aborted. The library keeps only the first one, and a lag that counts to it would count
the records of an open transaction, which nobody may read yet.
"""

from typing import Any

from kafka import KafkaConsumer


def end_at_stable_offsets(consumer: KafkaConsumer) -> None:
    """Let `consumer.highwater` be the last stable offset, where the broker names one."""
    fetcher = consumer._fetcher  # noqa: SLF001 - the library has no public way
    parse = fetcher._parse_fetched_data  # noqa: SLF001 - as above

    def parse_to_stable_offset(fetch: Any) -> Any:
        partition = fetch.partition_data
        if 0 <= partition.last_stable_offset < partition.high_watermark:
            partition.high_watermark = partition.last_stable_offset
        return parse(fetch)

    fetcher._parse_fetched_data = parse_to_stable_offset  # noqa: SLF001 - as above
