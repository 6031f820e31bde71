"""`make test-fast` leaves out tests with servers, which are marked automatically."""

from pathlib import Path

import pytest

from fraud_pipeline_tests.support.services import check_may_start, start


def test_a_test_is_marked_by_the_database_that_its_parameter_starts(
    request: pytest.FixtureRequest, database_url: str
) -> None:
    marked = request.node.get_closest_marker("servers") is not None
    assert marked == database_url.startswith("postgresql")


@pytest.mark.servers
def test_a_marked_test_may_start_a_server() -> None:
    check_may_start("a server")


def test_a_test_that_is_not_marked_cannot_start_a_server(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="mark it `servers`"):
        start(tmp_path)
