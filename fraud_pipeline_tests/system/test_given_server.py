"""With FRAUD_DATABASE_URL the suite uses a running server, and none of its databases."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
import sqlalchemy as sa

DOCTOR = "fraud_pipeline_tests/cli/test_doctor.py::TestClock::test_against_the_database"
NONE = "fraud_pipeline_tests/cli/test_doctor.py::TestCommand::test_warnings_are_no_failure"
MIGRATIONS = "fraud_pipeline_tests/database/test_statements.py::TestMigrations::test_up_down_up"


def outcomes(url: str, *tests: str) -> Counter[str]:
    """The number of tests that passed, and of those that could not begin, with that server given."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"FRAUD_DATABASE_URL": url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # Lines before the last one hold messages, which have words and numbers of their own.
    counts = re.findall(r"(\d+) (passed|failed|error)", done.stdout.splitlines()[-1])
    return Counter({word: int(number) for number, word in counts})


def test_the_suite_uses_a_database_of_its_own_on_that_server(postgres_url: str) -> None:
    server = sa.create_engine(sa.make_url(postgres_url).set(drivername="postgresql+psycopg"))

    def tables() -> list[str]:
        with server.connect() as connection:
            return sorted(sa.inspect(connection).get_table_names())

    before = tables()
    assert outcomes(postgres_url, MIGRATIONS, DOCTOR) == {"passed": 4}
    assert tables() == before
    server.dispose()


@pytest.mark.slow
def test_no_other_server_is_taken_for_it_and_what_needs_none_does_not_see_it() -> None:
    assert outcomes("postgresql://nobody@127.0.0.1:1/none", MIGRATIONS, NONE) == {"passed": 2, "error": 1}
