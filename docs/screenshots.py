"""Makes the pictures and the animation of the README: the whole system runs on a synthetic world, and a browser looks.

Usage: python docs/screenshots.py [--home DIRECTORY] [--phone DIRECTORY]
A home that was trained before saves the training. `--phone` keeps each page of the dashboard as a phone shows it.
It needs Chromium, and everything else is what `fraud-detect demo` runs.
"""

import sys
from pathlib import Path

# The browser is started by a helper of the tests, which an installation leaves out.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# isort: split
import argparse
import html
import io
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any, Final

import httpx
from PIL import Image

from fraud_pipeline.cli.demo_command import ADDRESSES_FILE
from fraud_pipeline.cli.demo_home import prepare_demo_home
from fraud_pipeline.settings import Settings, load_settings
from fraud_pipeline_tests.support.browser import chromium
from fraud_pipeline_tests.support.waiting import until
from serving.auth.tokens import issue_token_for
from serving.stream.producer import synthetic_rows

IMAGES: Final = Path(__file__).with_name("images")
LIVE_SECONDS: Final = 60
DESK: Final = {"width": 1_440, "height": 900}
PHONE: Final = {"width": 390, "height": 844}
PAGES: Final = ("Overview", "Traffic", "Drift", "Performance", "Missed fraud", "Models", "Stream")
TAKE: Final = "Take next alert"
PAYMENT: Final = {"merchant_id": "m-1", "amount": 129.90, "currency": "EUR", "channel": "online", "country": "DE"}
BURST: Final = 6
TERMINAL_LINES: Final = 27
FRAME_WIDTH: Final = 960
FRAME_MILLISECONDS: Final = 3_500
FRAUD_DETECT: Final = str(Path(sys.executable).with_name("fraud-detect"))
_TERMINAL: Final = """<body style="margin:0;background:#1d2630;color:#dfe6ec;height:100vh;overflow:hidden;
 display:flex;align-items:flex-end"><pre style="font:17px/1.5 monospace;margin:28px;white-space:pre-wrap">"""


def main() -> None:
    """Run everything, look, and stop everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a home directory with a champion")
    parser.add_argument("--phone", type=Path, help="where pages as a phone shows them are kept")
    arguments = parser.parse_args()
    with ExitStack() as running:
        home = arguments.home or Path(running.enter_context(tempfile.TemporaryDirectory(prefix="fraud-"))) / "demo"
        prepare_demo_home(home, settings={}, environment=os.environ)
        training = train(home)
        running.enter_context(demo(home))
        until((home / ADDRESSES_FILE).exists, what="the demo")
        urls = json.loads((home / ADDRESSES_FILE).read_bytes())
        settings, board, service = load_settings(), urls["dashboard"], urls["service"]
        stop = Event()
        running.callback(stop.set)
        Thread(target=send_payments, args=(settings, service), kwargs={"stop": stop}).start()
        time.sleep(LIVE_SECONDS)
        with chromium() as browser:
            take_pictures(browser, settings, board=board, dagster=urls["dagster"])
            animate(browser, settings, board=board, service=service, training=training)
            if arguments.phone:
                take_phone_pictures(browser, settings, board=board, directory=arguments.phone)


def train(home: Path) -> str:
    """What the training of this home printed; it is trained now if it was not."""
    output = home / "training.txt"
    if not (home / "champion").exists():
        trained = subprocess.run([FRAUD_DETECT, "train"], check=True, capture_output=True, text=True)
        output.write_text(trained.stdout.replace(str(home.resolve()), ".fraud"))
    return output.read_text() if output.exists() else ""


@contextmanager
def demo(home: Path) -> Iterator[None]:
    """`fraud-detect demo` on free ports, until the block ends."""
    with (home / "demo.log").open("w") as output:
        running = subprocess.Popen(
            [FRAUD_DETECT, "demo", f"--home={home}", "--free-ports"], stdout=output, stderr=output
        )
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def send_payments(settings: Settings, url: str, *, stop: Event) -> None:
    """Transactions over HTTP, about ten a second."""
    with client(settings, url) as http:
        for row in synthetic_rows(settings):
            fields = {name: value for name, value in row._asdict().items() if value is not None}
            amount = fields.pop("amount_cents") / 100
            payment = {"amount": amount, "currency": settings.currency, "event_time": datetime.now(UTC).isoformat()}
            http.post("/score", json=fields | payment).raise_for_status()
            if stop.wait(0.1):
                return


def client(settings: Settings, url: str) -> httpx.Client:
    """A client that may score."""
    token = issue_token_for(settings, subject="shop", scopes={"score"}, lifetime=timedelta(hours=1))
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def logged_in(browser: Any, settings: Settings, board: str, *, viewport: dict[str, int]) -> Any:
    """The dashboard of an analyst who is also an administrator."""
    token = issue_token_for(settings, subject="ann", scopes={"feedback", "admin"}, lifetime=timedelta(hours=1))
    page = browser.new_page(viewport=viewport)
    page.set_default_timeout(90_000)
    page.goto(board)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Alerts", exact=True).wait_for()
    return page


def take_pictures(browser: Any, settings: Settings, *, board: str, dagster: str) -> None:
    """Every page of the dashboard, and the graph of assets."""
    page = logged_in(browser, settings, board, viewport=DESK)
    page.get_by_role("button", name=TAKE).click()
    page.get_by_text("decided by").wait_for()
    keep(settled(page), IMAGES / "dashboard-alerts.png")
    for title in PAGES:
        open_page(page, title)
        keep(settled(page), IMAGES / f"dashboard-{title.lower().replace(' ', '-')}.png")
    take_graph(browser, dagster=dagster)


def take_graph(browser: Any, *, dagster: str) -> None:
    """The assets in Dagster, all groups opened."""
    page = browser.new_page(viewport={"width": 2_000, "height": 1_250})
    page.goto(f"{dagster}/asset-groups/")
    page.get_by_text("monitoring", exact=True).first.wait_for(timeout=60_000)
    page.keyboard.press("Alt+e")  # expands all groups
    page.wait_for_timeout(1_000)
    page.reload()  # fits the view
    page.get_by_text("drift_report").first.wait_for()
    page.wait_for_timeout(6_000)  # for the colours of states
    keep(settled(page), IMAGES / "asset-graph.png")


def take_phone_pictures(browser: Any, settings: Settings, *, board: str, directory: Path) -> None:
    """Every page of the dashboard at the width of a phone, whole."""
    directory.mkdir(parents=True, exist_ok=True)
    page = logged_in(browser, settings, board, viewport=PHONE)
    keep(settled(page), directory / "alerts.png")
    for title in PAGES:
        open_page(page, title)
        keep(settled(page), directory / f"{title.lower().replace(' ', '-')}.png")


def open_page(page: Any, title: str) -> None:
    """Go to a page of the dashboard by its menu."""
    page.get_by_role("link", name=title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True).wait_for()
    if title == "Models":  # it asks the registry first, which takes seconds
        page.get_by_role("heading", name="Promotions").wait_for()


def animate(browser: Any, settings: Settings, *, board: str, service: str, training: str) -> None:
    """The way from `make run` to a resolved alert, as the GIF of the README."""
    terminal = browser.new_page(viewport=DESK)
    customer = f"c-{time.time_ns()}"
    with client(settings, service) as http:
        for number in range(1, BURST + 1):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            payment = {"transaction_id": f"{customer}-{number}", "event_time": now, "customer_id": customer, **PAYMENT}
            answer = http.post("/score", json=payment).raise_for_status().json()
            time.sleep(1.1)  # payments of one second do not see each other
    sent = json.dumps(payment)
    answered = "{" + ",\n ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in answer.items()) + "}"
    frames = [printed(terminal, "make run", training)] if training else []
    frames.append(
        printed(terminal, f'curl http://127.0.0.1:8080/score -H "$AUTHORIZATION" -H "$JSON" -d \'{sent}\'', answered)
    )
    page = logged_in(browser, settings, board, viewport=DESK)
    frames.append(settled(page))
    page.get_by_role("button", name=TAKE).click()
    page.get_by_text("decided by").wait_for()
    frames.append(settled(page))
    page.get_by_role("button", name=re.compile("^Fraud")).click()  # its name ends with its key
    page.get_by_text("decided by").wait_for()
    frames.append(settled(page))
    open_page(page, "Traffic")
    frames.append(settled(page))
    height = round(FRAME_WIDTH * DESK["height"] / DESK["width"])
    pictures = [Image.open(io.BytesIO(png)).convert("RGB").resize((FRAME_WIDTH, height)) for png in frames]
    first, *others = [picture.quantize(255, dither=Image.Dither.NONE) for picture in pictures]
    path = IMAGES / "from-run-to-alert.gif"
    first.save(path, save_all=True, append_images=others, duration=FRAME_MILLISECONDS, loop=0, optimize=True)
    print(path, path.stat().st_size, flush=True)


def printed(page: Any, command: str, output: str) -> bytes:
    """A terminal after a command, with the last lines of its output."""
    lines = [f"<b>$ {html.escape(command)}</b>", *map(html.escape, output.strip().splitlines()[-TERMINAL_LINES:])]
    page.set_content(f"{_TERMINAL}{chr(10).join(lines)}</pre></body>")
    png: bytes = page.screenshot()
    return png


def settled(page: Any) -> bytes:
    """What the page shows when it has settled."""
    page.wait_for_timeout(6_000)
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    png: bytes = page.screenshot()
    return png


def keep(png: bytes, path: Path) -> None:
    """Write a picture without transparency, as small as PNG makes it."""
    Image.open(io.BytesIO(png)).convert("RGB").save(path, optimize=True)
    print(path, path.stat().st_size, flush=True)


if __name__ == "__main__":
    main()
