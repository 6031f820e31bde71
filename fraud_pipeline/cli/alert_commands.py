"""The command `fraud-detect alerts`.

Belongs here: words for a person. Must not be here: the rules of alerts (`alerts/queue.py`).
"""

import argparse
import getpass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic_core import to_json

from fraud_pipeline.alerts import queue
from fraud_pipeline.database import open_database
from fraud_pipeline.database.alerts import Alert
from fraud_pipeline.settings import load_settings

NO_ALERT: Final = (
    "There is no such alert. Each decision to review or block makes one: start `fraud-detect serve`, or "
    "`fraud-detect demo` for live traffic"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def alerts(arguments: argparse.Namespace) -> int:
    """List the oldest alerts, take the most urgent one, or resolve one."""
    with open_database(load_settings().database) as database:
        if arguments.action == "list":
            rows = queue.listed(database, status=arguments.status, limit=arguments.limit)
        elif arguments.action == "next":
            taken = queue.take_next(database, who=_analyst(arguments))
            rows = [] if taken is None else [taken]
        else:
            rows = [
                queue.resolve(
                    database,
                    arguments.transaction_id,
                    who=_analyst(arguments),
                    verdict=arguments.verdict,
                    kind=arguments.kind,
                    note=arguments.note,
                )
            ]
    if arguments.json:
        print(to_json(rows).decode())
    elif not rows:
        print(NO_ALERT)
    else:
        for alert in rows:
            print(_line(alert))
    return 0


def _analyst(arguments: argparse.Namespace) -> str:
    return arguments.who or getpass.getuser()


def _line(alert: Alert) -> str:
    created = _EPOCH + timedelta(microseconds=alert.created_at)
    columns = f"{alert.decision:<7}{alert.status:<16}{alert.assignee or '-':<16}{alert.transaction_id}"
    return f"{alert.number:>6}  {created:%Y-%m-%d %H:%M:%S}  {columns}"
