"""The options of `fraud-detect rules` and `fraud-detect lists`.

Belongs here: names, defaults, help. Must not be here: what an action does (`rule_commands.py`, `list_commands.py`).
Nothing but the standard library is imported, so that `--help` and completion answer at once.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from fraud_pipeline.cli.arguments import duration, instant, whole_number

AddCommand = Callable[..., argparse.ArgumentParser]


def add_rules(add: AddCommand) -> None:
    """Add both commands."""
    rules = add("rules", "rule_commands", "write, test and activate rules that overrule the model")
    actions = rules.add_subparsers(dest="action", required=True, metavar="action")
    listing = _action(actions, "list", "list every rule with its state", writes=False)
    listing.add_argument(
        "--state", choices=["draft", "shadow", "active", "retired"], help="only rules of this state (default: all)"
    )
    showing = _action(actions, "show", "show the versions of a rule and who changed it", writes=False)
    history = _action(actions, "history", "show who changed which rule or list, and why", writes=False)
    history.add_argument("name", nargs="?", help="only this rule or list")
    history.add_argument("--limit", type=int, default=50, help="number of changes")
    checking = _action(actions, "check", "check a condition without saving it", writes=False)
    checking.add_argument("when", help="SQL condition, such as \"amount > 500 AND country = 'NG'\"")
    adding = _action(actions, "add", "save a rule as a draft, or the next version of a rule in its present state")
    shadowing = _action(actions, "shadow", "record matches of a rule, without any effect")
    activating = _action(actions, "activate", "let a rule decide")
    activating.add_argument("--percent", type=float, default=100.0, help="share of customers; it only records others")
    retiring = _action(actions, "retire", "switch a rule off")
    snoozing = _action(actions, "snooze", "switch a rule off for one customer for a time")
    for action in (showing, adding, shadowing, activating, retiring, snoozing):
        action.add_argument("name", help="name of the rule")
    adding.add_argument(
        "--action", dest="effect", required=True, choices=["allow", "block", "review", "tag"], help="what the rule does"
    )
    adding.add_argument("--when", required=True, help="SQL condition over fields, features, lists and probability")
    adding.add_argument("--description", default="", help="what the rule looks for, as analysts and callers read it")
    snoozing.add_argument("customer_id", help="id of the customer")
    snoozing.add_argument("--for", dest="lasts", type=duration, required=True, help="time span, such as 7d")
    testing = _action(actions, "backtest", "count what a rule was true of in the stored decisions", writes=False)
    which = testing.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="name of the rule")
    which.add_argument("--when", help="SQL condition instead of a saved rule (default: the rule of the name)")
    testing.add_argument("--days", type=whole_number, default=90, help="number of days before now")
    exporting = _action(actions, "export", "write all rules to a TOML file for Git", writes=False)
    importing = _action(actions, "import", "save the rules of a TOML file that differ, with their states")
    for action in (exporting, importing):
        action.add_argument("file", type=Path, help="path of the file")
    _add_lists(add)


def _add_lists(add: AddCommand) -> None:
    lists = add("lists", "list_commands", "keep lists of values that rules use")
    actions = lists.add_subparsers(dest="action", required=True, metavar="action")
    _action(actions, "list", "list every list with the number of its values", writes=False)
    creating = _action(actions, "create", "create an empty list", reason=False)
    showing = _action(actions, "show", "show the values of a list", writes=False)
    adding = _action(actions, "add", "add values, or renew their comments and ends", reason=False)
    removing = _action(actions, "remove", "remove values")
    importing = _action(actions, "import", "add the values of a CSV file: value,comment,ends_at", reason=False)
    exporting = _action(actions, "export", "write the values of a list to a CSV file", writes=False)
    for action in (creating, showing, adding, removing, importing, exporting):
        action.add_argument("name", help="name of the list")
    creating.add_argument(
        "--match",
        choices=["exact", "prefix", "cidr"],
        default="exact",
        help="how a value matches; cidr is for networks",
    )
    showing.add_argument("--limit", type=int, default=50, help="number of values")
    for action in (adding, removing):
        action.add_argument("values", nargs="+", metavar="value", help="value of the list")
    for action in (creating, adding):
        action.add_argument("--comment", default="", help="what the list, or the value, is for")
    end = adding.add_mutually_exclusive_group()
    end.add_argument("--for", dest="lasts", type=duration, help="time span, such as 7d (default: without an end)")
    end.add_argument("--until", type=instant, help="end, such as 2026-12-24 (default: without an end)")
    for action in (importing, exporting):
        action.add_argument("file", type=Path, help="path of the CSV file")


def _action(
    actions: argparse._SubParsersAction,  # type: ignore[type-arg]
    name: str,
    summary: str,
    *,
    writes: bool = True,
    reason: bool = True,
) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    if writes:
        action.add_argument("--who", help="name of the analyst (default: your login name)")
        if reason:
            action.add_argument("--reason", default="", help="text for the audit trail")
    action.add_argument("--json", action="store_true", help="print JSON")
    return action
