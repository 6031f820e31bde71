"""Pages of the dashboard as AppTest shows them, and alerts as an entrance opens them.

Must not be here: a browser (`browser.py`).
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

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


def poor_contrast(page: Any) -> list[str]:
    """Texts of a page in a browser whose contrast is below WCAG 2 AA: 4.5, and 3 for large text and icons."""
    return [str(text) for text in page.evaluate(_POOR_CONTRAST)]


_POOR_CONTRAST: Final = """() => {
  const light = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const read = text => { const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a ?? 1]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const box = element.getBoundingClientRect();
    const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !box.width || !box.height || element.closest('[disabled], svg')) continue;
    let opacity = 1;
    const backgrounds = [];
    for (let parent = element; parent; parent = parent.parentElement) {
      const style = getComputedStyle(parent);
      opacity *= Number(style.opacity);
      backgrounds.unshift(read(style.backgroundColor));
    }
    const background = backgrounds.reduce((below, top) => over(top, below), [255, 255, 255]);
    const style = getComputedStyle(element), colour = read(style.color);
    const [a, b] = [light(over([...colour.slice(0, 3), colour[3] * opacity], background)), light(background)];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), size = parseFloat(style.fontSize);
    const isIcon = style.fontFamily.includes('Material'), isBold = Number(style.fontWeight) >= 700;
    const isLarge = isIcon || size >= 24 || (size >= 18.66 && isBold);
    if (contrast < (isLarge ? 3 : 4.5)) poor.push(`${contrast.toFixed(2)} ${element.textContent.trim()}`);
  }
  return poor;
}"""
