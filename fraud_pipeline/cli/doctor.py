"""Checks of every part of a deployment: its state, and the remedy where something is wrong.

Belongs here: the checks and their sentences. Must not be here: repairs; creating what is missing.
A container has the settings of the parts that it uses; a part that they do not name is reported as not used.
A check that raises is a finding, too. No finding holds a secret or a value of a transaction.
"""

import difflib
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from fraud_pipeline.database import Database, DatabaseUnavailableError, DatabaseUnsuitableError
from fraud_pipeline.database.examination import differences, refusals
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.host.os_errors import in_words
from fraud_pipeline.ingest.day_state import REMEDY, expected_last, feature_window, read_standing
from fraud_pipeline.messaging.topics import BrokerUnavailableError, KafkaSettings, load_kafka_settings, partitions_of
from fraud_pipeline.modeling.model_directory import FraudModel, IncompatibleModelError
from fraud_pipeline.promotion.published_model import published_version
from fraud_pipeline.schema.transactions import now_microseconds
from fraud_pipeline.scoring.rehearsal import rehearse
from fraud_pipeline.settings import HOME_VARIABLE, Settings, load_settings, setting_errors
from fraud_pipeline.storage.object_store import ObjectStoreError
from fraud_pipeline.storage.table_files import exists
from fraud_pipeline.storage.tables import TableStore
from serving.auth.keys import KeyFileError, read_keys
from serving.auth.tokens import LEEWAY
from serving.runtime.champion import load_proven
from serving.runtime.personal import key_of_model

State = Literal["ok", "warn", "fail"]

STALE_DAYS: Final = 42
"""Age at which a champion is reported. Models are trained weekly, on data that ends weeks earlier: labels mature."""
GIGABYTE: Final = 10**9
LEAST_FREE: Final = 2 * GIGABYTE
MAX_PROBLEMS: Final = 3
"""Problems of a database that are printed; the others mostly have the same cause."""
_OTHER_VARIABLES: Final = {HOME_VARIABLE}
_REGISTRY_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of one check; `finding` ends with the remedy where the state is not ok."""

    part: str
    state: State
    finding: str

    def __str__(self) -> str:
        return f"{self.state:<5}{self.part:<11}{self.finding}"


def examine(environment: Mapping[str, str] = os.environ) -> list[Diagnosis]:
    """The results of all checks, with the settings of this process."""
    first = check_settings(environment)
    if first.state == "fail":
        return [first]
    settings, kafka = load_settings(), load_kafka_settings()
    checks: Sequence[tuple[str, Callable[[], Diagnosis]]] = (
        ("disk", lambda: check_disk(settings)),
        ("database", lambda: check_database(settings)),
        ("broker", lambda: check_broker(kafka)),
        ("registry", lambda: check_registry(settings)),
        ("champion", lambda: check_champion(settings)),
        ("days", lambda: check_days(settings)),
        ("keys", lambda: check_keys(settings)),
        ("clock", lambda: check_clock(settings)),
    )
    return [first, *(_safely(part, check) for part, check in checks)]


def check_settings(environment: Mapping[str, str]) -> Diagnosis:
    """Whether settings are valid, and whether every FRAUD_ variable is a known setting."""
    try:
        known = _names(load_settings()) | _names(load_kafka_settings()) | _OTHER_VARIABLES
    except ValidationError as error:
        return Diagnosis("settings", "fail", setting_errors(error))
    except ValueError as error:  # the remembered source is damaged or contradicts the settings
        return Diagnosis("settings", "fail", str(error))
    unknown = sorted(name for name in environment if name.startswith("FRAUD_") and name not in known)
    if unknown:
        guesses = [(name, difflib.get_close_matches(name, known, n=1)) for name in unknown]
        names = ", ".join(f"{name} (did you mean {close[0]}?)" if close else name for name, close in guesses)
        return Diagnosis("settings", "warn", f"unknown variables: {names}; correct or remove them")
    return Diagnosis("settings", "ok", "settings are valid")


def check_disk(settings: Settings, *, least: int = LEAST_FREE) -> Diagnosis:
    """Whether the home directory is writable and has `least` bytes of room. A read-only mount is intended."""
    home = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    if not home.is_dir():
        problem = f"{home} is a file, not a directory: move it away, or set FRAUD_HOME to another path"
        return Diagnosis("disk", "fail", problem)
    if os.statvfs(home).f_flag & os.ST_RDONLY:
        return Diagnosis("disk", "ok", f"{home} is mounted read-only")
    if not os.access(home, os.W_OK):
        return Diagnosis("disk", "fail", f"{home} is not writable: make this user its owner")
    free = shutil.disk_usage(home).free
    room = f"{free / GIGABYTE:.1f} GB are free at {home}"
    if free < least:
        return Diagnosis("disk", "fail", f"{room}: make room, {least / GIGABYTE:.0f} GB at least")
    return Diagnosis("disk", "ok", room)


def check_database(settings: Settings) -> Diagnosis:
    """Whether the database answers, is of this release, and accepts the writes of scoring, which are rolled back."""
    file = settings.database.removeprefix("sqlite:///")
    if file != settings.database and not Path(file).exists():
        return Diagnosis("database", "ok", "not used here: FRAUD_DATABASE_URL is empty, and no SQLite file exists yet")
    try:
        with closing(Database(settings.database, statement_timeout=settings.statement_timeout)) as database:
            database.check_revision()
            if problems := differences(database) or _rehearsed(database) or refusals(database):
                more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
                return Diagnosis("database", "fail", "; ".join(problems[:MAX_PROBLEMS]) + more)
            kind = "PostgreSQL" if database.is_postgresql else "SQLite"
    except (DatabaseUnavailableError, DatabaseUnsuitableError, ValueError) as error:
        return Diagnosis("database", "fail", str(error))
    return Diagnosis("database", "ok", f"{kind} answers, is of this release, and accepts what scoring writes")


def _rehearsed(database: Database) -> list[str]:
    """The reason why a rehearsal of scoring fails; empty if it succeeds."""
    try:
        rehearse(database, now=now_microseconds())
    except DatabaseUnavailableError as error:
        return [str(error)]
    return []


def check_broker(kafka: KafkaSettings) -> Diagnosis:
    """Whether the brokers answer and have our topics; without FRAUD_KAFKA_BOOTSTRAP_SERVERS none is needed."""
    try:
        partitions = partitions_of(kafka)
    except BrokerUnavailableError as error:
        if "bootstrap_servers" not in kafka.model_fields_set:
            return Diagnosis("broker", "ok", "not used here: FRAUD_KAFKA_BOOTSTRAP_SERVERS is empty")
        return Diagnosis("broker", "fail", f"{error} (only the stream needs one)")
    missing = sorted(set(kafka.topics) - partitions.keys())
    if missing:
        return Diagnosis(
            "broker", "warn", f"has no topic {', '.join(missing)}: run `fraud-detect consume`, which creates them"
        )
    return Diagnosis(
        "broker", "ok", f"answers; {kafka.transactions_topic} has {partitions[kafka.transactions_topic]} partitions"
    )


def check_registry(settings: Settings) -> Diagnosis:
    """Whether the registry answers, and whether its champion is the exported one."""
    file = settings.tracking_uri.removeprefix("sqlite:///")
    if file != settings.tracking_uri and not Path(file).exists():
        unused = "not used here: FRAUD_MLFLOW_TRACKING_URI is empty, and no training has created a store yet"
        return Diagnosis("registry", "ok", unused)
    # MLflow's own patience is minutes.
    os.environ.update({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_REGISTRY_SECONDS)})
    try:
        from fraud_pipeline.promotion.registry import open_registry  # noqa: PLC0415 - a serving container has no mlflow
    except ModuleNotFoundError:
        return Diagnosis("registry", "ok", "not used here: mlflow is not installed, and serving does not need it")
    registry = open_registry(settings)
    try:
        champion = registry.with_alias("champion")
    except Exception as error:  # noqa: BLE001 - every kind of store has errors of its own
        remedy = "start it, or correct FRAUD_MLFLOW_TRACKING_URI; the exported champion still serves"
        return Diagnosis("registry", "fail", f"does not answer ({type(error).__name__}): {remedy}")
    if champion is None:
        return Diagnosis(
            "registry", "warn", "has no champion: materialize `champion` in Dagster, or `fraud-detect train`"
        )
    exported = published_version(settings.champion_directory)
    if exported is None or exported[0] != champion.version:
        missing = f"champion v{champion.version} is not exported here: run `fraud-detect export-models`"
        return Diagnosis("registry", "warn", missing)
    return Diagnosis("registry", "ok", f"answers; champion v{champion.version} is exported")


def check_champion(settings: Settings, *, now: Callable[[], float] = time.time) -> Diagnosis:
    """Whether the exported model loads with unchanged files, its age and the age of its training data."""
    directory = settings.champion_directory
    if not directory.exists():
        return Diagnosis("champion", "warn", "none is exported, so rules decide: run `fraud-detect export-models`")
    published = published_version(directory)
    try:
        model = load_proven(directory).model
        if (own := model.feature_config.own_inputs).personal_key:
            key_of_model(own, settings.personal_key_file)
    except (IncompatibleModelError, OSError) as error:
        return Diagnosis("champion", "fail", f"cannot serve: {error}")
    name = f"v{published[0]}" if published else "unregistered copy"
    ended = _days_since(model.lineage["trained_to"], now=now)
    state = (
        f"{name}: files verified; its training data ended {max(ended, 0):.0f} days ago{_own_maturity(model, settings)}"
    )
    if "created_at" not in model.lineage:
        return Diagnosis("champion", "ok", f"{state}; its age is unknown")
    made = _days_since(model.lineage["created_at"], now=now)
    if made > STALE_DAYS:
        remedy = "see why later trainings were not promoted, and retrain"
        return Diagnosis("champion", "warn", f"{state}, but it was trained {made:.0f} days ago: {remedy}")
    return Diagnosis("champion", "ok", f"{state}; it was trained {max(made, 0):.0f} days ago")


def _own_maturity(model: FraudModel, settings: Settings) -> str:
    """A remark where the model's label maturity is not that of the settings; it is served with its own."""
    of_model, of_settings = model.feature_config.label_maturity, settings.label_maturity
    if of_model == of_settings:
        return ""
    day = timedelta(days=1)
    return f" (label maturity: {of_model / day:g} days; the settings for the next model: {of_settings / day:g})"


def check_days(settings: Settings, *, now: Callable[[], float] = time.time) -> Diagnosis:
    """Whether the day tables hold every expected day, with features computed from their present rows."""
    try:
        return _days(settings, now=now)
    except ObjectStoreError as error:
        return Diagnosis("days", "fail", str(error))


def _days(settings: Settings, *, now: Callable[[], float]) -> Diagnosis:
    if not exists(settings.tables_location):
        return Diagnosis("days", "ok", "not used here: no day was ingested yet")
    store = TableStore(settings.tables_location)
    window = feature_window(FeatureConfig(label_maturity=settings.label_maturity), first=settings.first_day)
    moment = datetime.fromtimestamp(now(), UTC)
    last = expected_last(living=settings.living, ends=settings.calendar_end, now=moment)
    standing = read_standing(store, window=window, last=last)
    if not standing.current:
        return Diagnosis("days", "warn", f"{standing.summary}: {REMEDY}")
    return Diagnosis("days", "ok", standing.summary)


def check_keys(settings: Settings) -> Diagnosis:
    """Whether tokens can be verified, and whether only this user can read the signing keys."""
    if settings.jwt_keys is None and not settings.keys_file.exists():
        return Diagnosis("keys", "ok", "not used here: none exist; the first token or service creates one")
    try:
        keys = read_keys(settings.keys_file)
    except KeyFileError as error:
        return Diagnosis("keys", "fail", str(error))
    return Diagnosis("keys", "ok", f"{len(keys)} can be read; secret ones by this user only")


def check_clock(settings: Settings, *, now: Callable[[], float] = time.time) -> Diagnosis:
    """Whether this machine's clock agrees with the database's, or else with the registry's."""
    started = now()
    remote = _database_time(settings)
    other = "database" if remote is not None else "registry"
    remote = remote if remote is not None else _registry_time(settings)
    if remote is None:
        return Diagnosis("clock", "ok", "no other machine to compare it with")
    off = (started + now()) / 2 - remote
    if abs(off) > LEEWAY:
        effect = "tokens are refused and events lie in the future: synchronize both by NTP"
        return Diagnosis(
            "clock", "fail", f"is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the {other}'s: {effect}"
        )
    return Diagnosis("clock", "ok", f"agrees with the {other}'s")


def _database_time(settings: Settings) -> float | None:
    """Seconds since 1970 by the database's server, None for a file and while it is away."""
    if settings.database.startswith("sqlite"):
        return None
    try:
        with closing(Database(settings.database, statement_timeout=settings.statement_timeout)) as database:
            return database.server_time()
    except (DatabaseUnavailableError, ValueError):
        return None


def _registry_time(settings: Settings) -> float | None:
    """Seconds since 1970 by the registry's server, None for a file and while it is away."""
    if not settings.tracking_uri.startswith(("http://", "https://")):
        return None
    try:
        with urllib.request.urlopen(f"{settings.tracking_uri}/health", timeout=_REGISTRY_SECONDS) as answer:  # noqa: S310 - checked above
            return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (OSError, TypeError, ValueError):
        return None


def _days_since(moment: object, *, now: Callable[[], float]) -> float:
    then = datetime.fromisoformat(str(moment))
    return (now() - then.replace(tzinfo=then.tzinfo or UTC).timestamp()) / 86_400


def _names(settings: BaseSettings) -> set[str]:
    prefix = settings.model_config["env_prefix"]
    return {f"{prefix}{name}".upper() for name in type(settings).model_fields}


def _safely(part: str, check: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return check()
    except OSError as error:
        return Diagnosis(part, "fail", in_words(error))
    except Exception as error:  # noqa: BLE001 - the message may hold an address with a password
        return Diagnosis(part, "fail", f"the check failed ({type(error).__name__}): see the settings of this part")
