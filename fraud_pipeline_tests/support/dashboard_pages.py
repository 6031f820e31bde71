"""Pages of the dashboard as AppTest shows them, and alerts as an entrance opens them.

Must not be here: a browser (`browser.py`).
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from streamlit.testing.v1 import AppTest

from fraud_pipeline.database import Database
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.schema.transactions import SECOND, TransactionRow, now_microseconds
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS
from serving.auth.tokens import Scope, issue_token_for


def score(database: Database, trained: TrainedModel, rows: list[TransactionRow]) -> None:
    """Decide on rows as an entrance does; each opens an alert."""
    doubting = replace(trained.model, policy=Policy(review_threshold=0.0, block_threshold=1.0))
    loaded = Loaded(doubting, version="7")
    Scorer(database=database, champion=lambda: loaded).score(rows)


def rows(count: int, *, customer: str = "c-1", age: timedelta = timedelta(0)) -> list[TransactionRow]:
    now = now_microseconds() - round(age.total_seconds() * SECOND)
    return [
        TransactionRow(f"t-{number}", now - (count - number) * SECOND, customer, "m-1", 1_999, category="grocery")
        for number in range(count)
    ]


def token(settings: Settings, *scopes: Scope, lifetime: timedelta = timedelta(hours=1)) -> str:
    return issue_token_for(settings, subject="ann", scopes=scopes, lifetime=lifetime)


def opened(page: str, *, with_token: str | None) -> AppTest:
    """A page as its program shows it."""
    app = AppTest.from_string(
        "from serving.dashboard.session import require_login\n"
        f"from serving.dashboard import {page}_page\n"
        "here = require_login()\n"
        "if here is not None:\n"
        f"    {page}_page.show(here)\n",
        default_timeout=LIMIT_SECONDS,
    )
    if with_token is not None:
        app.session_state["token"] = with_token
    return app.run()


def log_in(page: Any, url: str, token: str) -> None:
    page.goto(url)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
