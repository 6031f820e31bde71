"""Which column is the label, and which of its values means fraud.

Belongs here: names and spellings of labels. Must not be here: other fields.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fraud_pipeline.ingest.column_names import spelled
from fraud_pipeline.ingest.column_profiles import Profile, listed
from fraud_pipeline.ingest.declaration import LabelReading
from fraud_pipeline.schema.fields import FIELDS

_FRAUD_WORD: Final = r"(?:fraud\w*?|fradul\w*?|frauds?|betrug|fraude|frode|fraudulento|defraud\w*|scam)"
_ABOUT: Final = r"(?:is|tx|txn|trans|transaction|event|has|target|known|confirmed|was|final|actual|true)"
_LABEL_WORD: Final = r"(?:label|flag|bool|ind|indicator|found|reported|class|target|status|outcome|y|p|yn|1|0|detected)"
_NAMES: Final = (
    rf"(?:{_ABOUT}_)*{_FRAUD_WORD}(?:_{_LABEL_WORD})*",
    rf"(?:{_ABOUT}_)*(?:label|chargeback|cbk|charge_back|chargedback)(?:_{_LABEL_WORD})*",
    rf"{_LABEL_WORD}_{_FRAUD_WORD}",
    r"(?:is_)?(?:sar|laundering|money_laundering|illicit)|class|target|y|outcome|response|default|is_bad|bad|good_bad|result|anomaly|is_anomaly|is_suspicious|suspicious",
)
"""Names of labels, the plainest first."""
_NO_LABEL: Final = (
    r"(?:^|_)(?:flagged|scenario|score|scored|predict\w*|prob\w*|risk|rule|alert|type|reason|count|rate)(?:_|$)"
)
"""Words of results of rules and models, and of kinds of fraud."""
_ABOUT_LABEL: Final = re.compile(
    rf"(?:^|_)(?:{_FRAUD_WORD}|label|chargeback|charge_back|cbk)(?:_|$)|(?:^|_)is_?flagged(?:_|$)"
)
_HISTORY: Final = re.compile(
    r"(?:^|_)(?:prior|past|previous|history|hist|last|rate|count|num|number|days|\d+d|past)(?:_|$)"
)
_YES_WORDS: Final = r"fraud\w*|fradul\w*|betrug|bad|chargeback|scam|confirmed|positive|anomal\w*|malicious|suspicious"
_NEGATION: Final = r"(?:no|non|not|nie|kein\w*)[ _\-]*"
_NO_WORDS: Final = r"nein|non|nao|não|nie|nee|genuine|legit\w*|good|normal|negative|clean|valid|regular"
_FOREIGN_YES: Final = ("ja", "oui", "si", "sì", "sí", "sim", "tak")
_VALUES: Final = FIELDS["is_fraud"].allowed
_MOST_VALUES: Final = 6


@dataclass(frozen=True, slots=True)
class LabelGuess:
    """A label column. `fraud` and `legitimate` are its spellings; other values, and empty cells, are unknown."""

    name: str
    fraud: tuple[str, ...]
    legitimate: tuple[str, ...]
    evidence: str
    warnings: tuple[str, ...] = ()

    @property
    def marks_frauds_only(self) -> bool:
        """Whether no cell says legitimate, so that the empty ones do."""
        return not self.legitimate

    @property
    def reading(self) -> LabelReading:
        """The declaration; spellings that every file may use are not repeated."""
        known = set(self.fraud) <= _spellings("fraud") and set(self.legitimate) <= _spellings("legitimate")
        if known:
            return LabelReading(column=self.name)
        return LabelReading(column=self.name, fraud=self.fraud, legitimate=self.legitimate)


def label_rank(name: str) -> int | None:
    """How plainly a name says that its column is the label, 0 the plainest; None if it does not."""
    words = spelled(name)
    if re.search(_NO_LABEL, words):
        return None
    return next((rank for rank, pattern in enumerate(_NAMES) if re.fullmatch(pattern, words)), None)


def speaks_of_fraud(profile: Profile) -> bool:
    """Whether a column of another name has a few values, one of which is a word for fraud."""
    if re.search(_NO_LABEL, spelled(profile.name)) or not 2 <= profile.distinct <= _MOST_VALUES:
        return False
    return any(re.search(r"\b(?:fraud|chargeback|scam|betrug)", value.lower()) for value in profile.counts)


def is_about_label(name: str) -> bool:
    """Whether a name speaks of fraud, label or chargeback, and not of those before the transaction."""
    words = spelled(name)
    return bool(_ABOUT_LABEL.search(words)) and not _HISTORY.search(words)


def judge_label(profile: Profile) -> LabelGuess | str:
    """The label that a whole column holds, or why it is none."""
    if not profile.filled:
        return "it is empty"
    counts: dict[str, int] = {}
    for value, count in profile.counts.items() if profile.distinct <= 2 * _MOST_VALUES else ():
        counts[value.lower()] = counts.get(value.lower(), 0) + count
    if not counts or len(counts) > _MOST_VALUES:
        return f"it has {profile.distinct:,} values, and a label has two"
    fraud = [value for value in counts if _meaning(value) == "fraud"]
    legitimate = [value for value in counts if _meaning(value) == "legitimate"]
    if len(counts) == 1:
        return _one_value(profile, fraud, legitimate, counts)
    if len(counts) == 2 and len(fraud) == 1 and not legitimate and re.search(_YES_WORDS, fraud[0]):
        legitimate = [value for value in counts if value not in fraud]  # fraud beside any other word
    if fraud and legitimate:
        unclear = [value for value in counts if value not in (*fraud, *legitimate)]
        return _guess(profile, fraud, legitimate, counts, unclear=unclear)
    if len(counts) > 2:
        return f"it has {len(counts)} values, none of which is spelled as fraud and another as legitimate"
    frequent, rare = sorted(counts, key=lambda value: -counts[value])
    warning = f"'{profile.name}': neither value is spelled as fraud, so {rare}, the rarer, is taken as fraud"
    return _guess(profile, [rare], [frequent], counts, unclear=[], warnings=(warning,))


def _one_value(
    profile: Profile, fraud: Sequence[str], legitimate: Sequence[str], counts: Mapping[str, int]
) -> LabelGuess | str:
    if fraud and profile.filled < len(profile.text):
        evidence = f"fraud is {fraud[0]} ({profile.filled:,}); only frauds are marked, so empty is legitimate"
        return LabelGuess(profile.name, tuple(fraud), (), evidence)
    if fraud or legitimate:
        return _guess(profile, fraud, legitimate, counts, unclear=[])
    return f"every filled cell is {next(iter(counts))}; a label has two values"


def _guess(
    profile: Profile,
    fraud: Sequence[str],
    legitimate: Sequence[str],
    counts: Mapping[str, int],
    *,
    unclear: Sequence[str],
    warnings: tuple[str, ...] = (),
) -> LabelGuess:
    frauds, genuine = (sum(counts[value] for value in side) for side in (fraud, legitimate))
    empty = len(profile.text) - profile.filled
    unknown = [*(f"{value} ({counts[value]:,})" for value in unclear), *([f"empty ({empty:,})"] if empty else [])]
    sides = [
        *([f"fraud is {listed(list(fraud))} ({frauds:,})"] if fraud else []),
        *([f"legitimate is {listed(list(legitimate))} ({genuine:,})"] if legitimate else []),
        *([f"unknown is {listed(unknown)}"] if unknown else []),
    ]
    if frauds > genuine > 0:
        warnings += (f"'{profile.name}': fraud is more frequent than legitimate; check that the sides are right",)
    return LabelGuess(profile.name, tuple(fraud), tuple(legitimate), ", ".join(sides), warnings)


def _meaning(value: str) -> str | None:
    """fraud, legitimate, or None for any other value."""
    for side in ("fraud", "legitimate"):
        if value in _spellings(side):
            return side
    if re.search(rf"\b{_NEGATION}(?:{_YES_WORDS})", value) or re.fullmatch(_NO_WORDS, value):
        return "legitimate"
    if re.search(rf"\b(?:{_YES_WORDS})", value) or value in _FOREIGN_YES:
        return "fraud"
    return None


def _spellings(side: str) -> set[str]:
    return {side, *_VALUES[side]}
