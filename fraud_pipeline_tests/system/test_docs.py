"""README and docs name only existing links, commands, settings, files, services and make targets; their code parses."""

import argparse
import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from fraud_pipeline.cli.parser import build_parser
from fraud_pipeline.database.query import PASSWORD_VARIABLE
from fraud_pipeline.messaging.topics import KafkaSettings
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.deployment import ROOT

PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CURRENT: Final = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names removed things, too
every_page: Final = pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))

BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN: Final = re.compile(r"`([^`\n]+)`")
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
COMMAND: Final = re.compile(r"fraud-detect +([a-z][^#\n&|;)]*)")
TOP_LEVEL: Final = ("benchmarks", "deploy", "docs", "examples", "fraud_pipeline", "fraud_pipeline_tests", "serving")
PATH: Final = re.compile(rf"(?:{'|'.join(TOP_LEVEL)})/[\w./-]*")
REFERENCE: Final = re.compile(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?")
PLACEHOLDERS: Final = {"FILE": "copy.db", "VERSION": "7", "ID": "t-1"}


def blocks(text: str, *languages: str) -> list[str]:
    """The code blocks of a page in these languages."""
    return [code for language, code in BLOCK.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    """The code spans of a page, outside of its code blocks."""
    return SPAN.findall(BLOCK.sub("", text))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ +(.*)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[ -]+", "-", re.sub(r"[^\w -]", "", heading.lower()).strip()) for heading in headings}


def subparser(words: list[str]) -> argparse.ArgumentParser:
    """The parser of a command and its action. Raises KeyError for a command that does not exist."""
    parser: argparse.ArgumentParser = build_parser()
    for word in words:
        choices: dict[str, Any] = next((a.choices for a in parser._actions if isinstance(a.choices, dict)), {})
        if not choices:
            break
        parser = choices[word]
    return parser


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_an_anchor(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_that_code_refers_to_exists() -> None:
    below = [path for name in TOP_LEVEL for path in (ROOT / name).rglob("*")]
    files = [path for path in [*ROOT.iterdir(), *below] if path.suffix in {".py", ".yml", ".toml", ".sh"}]
    references = {reference for file in files for reference in REFERENCE.findall(file.read_text())}
    assert references
    for path, anchor in references:
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(ROOT / path), f"{path}#{anchor}"


@every_page
def test_every_command_line_parses(page: Path) -> None:
    for code in blocks(page.read_text(), "sh"):
        for line in COMMAND.findall(code.replace("\\\n", " ")):
            words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
            arguments = build_parser().parse_args(words)
            assert callable(arguments.run), line


@every_page
def test_every_command_and_option_that_is_mentioned_exists(page: Path) -> None:
    for span in spans(page.read_text()):
        for mention in COMMAND.findall(span):
            words = shlex.split(mention)
            known = subparser([word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)])
            options = {word for word in words if word.startswith("--")}
            assert options <= known._option_string_actions.keys(), span


@every_page
def test_every_setting_exists(page: Path) -> None:
    known = {f"FRAUD_{name.upper()}" for name in Settings.model_fields} | {"FRAUD_NAME", PASSWORD_VARIABLE}
    known |= {f"FRAUD_KAFKA_{name.upper()}" for name in KafkaSettings.model_fields}
    assert set(re.findall(r"\bFRAUD_[A-Z][A-Z_]*", page.read_text())) <= known


@every_page
def test_every_file_exists(page: Path) -> None:
    text = page.read_text()
    for code in [*spans(text), *blocks(text, "sh")]:
        for path in PATH.findall(code):
            assert (ROOT / path.rstrip(".")).exists(), path


@every_page
def test_every_service_and_make_target_exists(page: Path) -> None:
    text = page.read_text()
    code = "\n".join([*spans(text), *blocks(text, "sh")])
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    called = re.findall(r"docker compose (?:exec|restart|run --rm|logs(?: --tail=\d+)?|ps|stats) ([a-z-]+)", code)
    assert set(called) <= services.keys()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)) <= set(targets)


@every_page
def test_every_code_block_parses(page: Path) -> None:
    read = {"python": ast.parse, "json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load, "sh": check_shell}
    for language, code in BLOCK.findall(page.read_text()):
        if language != "text":
            read[language](code)


def check_shell(code: str) -> None:
    """Raise CalledProcessError for a script that bash cannot read."""
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """The pages of the reference as the code makes them now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        pages = runpy.run_path(str(ROOT / "docs" / "reference.py"))["PAGES"]
    return {name: make_page() for name, make_page in pages.items()}


def test_the_reference_has_no_other_page(generated: dict[str, str]) -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").iterdir()} == generated.keys()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "docs" / "reference").glob("*.md")))
def test_the_reference_is_what_the_code_says(name: str, generated: dict[str, str]) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == generated[name], "run: make reference"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "reference" / "settings" / "index.html").exists()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
