"""The command `fraud-detect doctor`.

Belongs here: words for a person. Must not be here: the checks (`doctor.py`).
"""

import argparse

from pydantic_core import to_json

from fraud_pipeline.cli.doctor import examine


def doctor(arguments: argparse.Namespace) -> int:
    """Print the result of every check; the exit status is 1 when a part cannot work."""
    findings = examine()
    print(to_json(findings).decode() if arguments.json else "\n".join(map(str, findings)))
    return int(any(finding.state == "fail" for finding in findings))
