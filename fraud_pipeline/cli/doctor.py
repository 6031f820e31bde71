"""One look at every part of a deployment: is it well, and what is to be done where it is not?

Belongs here: the checks and their words. Must not be here: mending anything, or making what is missing.
A container has the settings of what it uses: a part that these do not name is not used there, and that is well.
A check that breaks is a finding, too. Nothing here holds a secret or a value of a transaction.
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
from fraud_pipeline.scoring.rehearsal import rehearse
from fraud_pipeline.settings import HOME_VARIABLE, Settings, load_settings
from fraud_pipeline.storage.tables import TableStore
from serving.auth.keys import KeyFileError, read_keys
from serving.auth.tokens import LEEWAY
from serving.runtime.champion import load_proven

State = Literal["ok", "warn", "fail"]

STALE_DAYS: Final = 42
"""A model is trained each week. What it knows ends weeks before it was made, since labels have to mature."""
GIGABYTE: Final = 10**9
LEAST_FREE: Final = 2 * GIGABYTE
MOST_TOLD: Final = 3
"""Of what is wrong with a database: the rest mostly has the same cause."""
_OTHER_VARIABLES: Final = {HOME_VARIABLE}
_REGISTRY_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one check found; `told` ends with what to do where the state is not ok."""

    part: str
    state: State
    told: str

    def __str__(self) -> str:
        return f"{self.state:<5}{self.part:<11}{self.told}"


def examine(environment: Mapping[str, str] = os.environ) -> list[Diagnosis]:
    """Every check on the settings of this process."""
    wrong = check_settings(environment)
    if wrong.state == "fail":
        return [wrong]
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
    return [wrong, *(_safely(part, check) for part, check in checks)]


def check_settings(environment: Mapping[str, str]) -> Diagnosis:
    """Whether settings can be read, and whether every FRAUD_ variable is one that somebody reads."""
    try:
        known = _names(load_settings()) | _names(load_kafka_settings()) | _OTHER_VARIABLES
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'together'}: {one['msg']}" for one in error.errors())
        return Diagnosis("settings", "fail", f"{error.title} cannot be used: {wrong}")
    except ValueError as error:  # the remembered source cannot be read, or does not go with the settings
        return Diagnosis("settings", "fail", str(error))
    unknown = sorted(name for name in environment if name.startswith("FRAUD_") and name not in known)
    if unknown:
        meant = [(name, difflib.get_close_matches(name, known, n=1)) for name in unknown]
        said = ", ".join(f"{name} (did you mean {close[0]}?)" if close else name for name, close in meant)
        return Diagnosis("settings", "warn", f"nobody reads {said}: correct or remove it")
    return Diagnosis("settings", "ok", "can be read")


def check_disk(settings: Settings, *, least: int = LEAST_FREE) -> Diagnosis:
    """Whether the home directory can be written to and has room; `least` in bytes. A read-only mount is meant so."""
    home = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    if not home.is_dir():
        told = f"{home} is a file and no directory: move it away, or let FRAUD_HOME name another path"
        return Diagnosis("disk", "fail", told)
    if os.statvfs(home).f_flag & os.ST_RDONLY:
        return Diagnosis("disk", "ok", f"{home} is only read here")
    if not os.access(home, os.W_OK):
        return Diagnosis("disk", "fail", f"{home} cannot be written to: let this user, and only it, own it")
    free = shutil.disk_usage(home).free
    room = f"{free / GIGABYTE:.1f} GB are free at {home}"
    if free < least:
        return Diagnosis("disk", "fail", f"{room}: make room, {least / GIGABYTE:.0f} GB at least")
    return Diagnosis("disk", "ok", room)


def check_database(settings: Settings) -> Diagnosis:
    """Whether the database answers, is of this release, and takes all that scoring writes; nothing stays of it."""
    file = settings.database.removeprefix("sqlite:///")
    if file != settings.database and not Path(file).exists():
        return Diagnosis("database", "ok", "not used here: FRAUD_DATABASE_URL names none, and nothing made a file yet")
    try:
        with closing(Database(settings.database, statement_timeout=settings.statement_timeout)) as database:
            database.check_revision()
            if wrong := differences(database) or _rehearsed(database) or refusals(database):
                more = f"; and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
                return Diagnosis("database", "fail", "; ".join(wrong[:MOST_TOLD]) + more)
            kind = "PostgreSQL" if database.is_postgresql else "SQLite"
    except (DatabaseUnavailableError, DatabaseUnsuitableError, ValueError) as error:
        return Diagnosis("database", "fail", str(error))
    return Diagnosis("database", "ok", f"{kind} answers, is of this release, and takes what scoring writes")


def _rehearsed(database: Database) -> list[str]:
    """Why a rehearsal of scoring fails, if it does."""
    try:
        rehearse(database, now=time.time_ns() // 1_000)
    except DatabaseUnavailableError as error:
        return [str(error)]
    return []


def check_broker(kafka: KafkaSettings) -> Diagnosis:
    """Whether the brokers answer and have our topics; where nobody named any, there need be none."""
    try:
        found = partitions_of(kafka)
    except BrokerUnavailableError as error:
        if "bootstrap_servers" not in kafka.model_fields_set:
            return Diagnosis("broker", "ok", "not used here: FRAUD_KAFKA_BOOTSTRAP_SERVERS names none")
        return Diagnosis("broker", "fail", f"{error} (only the stream needs one)")
    missing = sorted(set(kafka.topics) - found.keys())
    if missing:
        return Diagnosis("broker", "warn", f"has no topic {', '.join(missing)}: `fraud-detect consume` makes them")
    return Diagnosis(
        "broker", "ok", f"answers; {kafka.transactions_topic} has {found[kafka.transactions_topic]} partitions"
    )


def check_registry(settings: Settings) -> Diagnosis:
    """Whether the registry answers, and whether its champion is the one that is exported here."""
    file = settings.tracking_uri.removeprefix("sqlite:///")
    if file != settings.tracking_uri and not Path(file).exists():
        told = "not used here: FRAUD_MLFLOW_TRACKING_URI names none, and no training made a file yet"
        return Diagnosis("registry", "ok", told)
    # MLflow's own patience is minutes.
    os.environ.update({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_REGISTRY_SECONDS)})
    try:
        from fraud_pipeline.promotion.registry import Registry  # noqa: PLC0415 - what only serves has no mlflow
    except ModuleNotFoundError:
        return Diagnosis("registry", "ok", "is not asked here: mlflow is not installed, and what serves needs none")
    registry = Registry(tracking_uri=settings.tracking_uri, model_name=settings.model_name)
    try:
        champion = registry.with_alias("champion")
    except Exception as error:  # noqa: BLE001 - every kind of store has errors of its own
        what = "see that it runs and that FRAUD_MLFLOW_TRACKING_URI is right"
        return Diagnosis(
            "registry", "fail", f"does not answer ({type(error).__name__}): {what}; what is exported serves on"
        )
    if champion is None:
        return Diagnosis(
            "registry", "warn", "has no champion: materialize `champion` in Dagster, or `fraud-detect train`"
        )
    exported = published_version(settings.champion_directory)
    if exported is None or exported[0] != champion.version:
        return Diagnosis(
            "registry", "warn", f"its champion is v{champion.version}, not what is exported here: run `follow`"
        )
    return Diagnosis("registry", "ok", f"answers; v{champion.version} is champion, and exported")


def check_champion(settings: Settings, *, now: Callable[[], float] = time.time) -> Diagnosis:
    """Whether the exported model is whole and of use to this code, how old it is, and how old what it knows."""
    directory = settings.champion_directory
    if not directory.exists():
        return Diagnosis(
            "champion", "warn", "there is none here, so that rules decide: `fraud-detect follow` exports it"
        )
    published = published_version(directory)
    try:
        model = load_proven(directory).model
    except (IncompatibleModelError, OSError) as error:
        return Diagnosis("champion", "fail", f"cannot serve: {error}")
    name = f"v{published[0]}" if published else "a copy made by hand"
    known = _days_since(model.lineage["trained_to"], now=now)
    told = f"{name} is whole and knows all but the last {max(known, 0):.0f} days{_own_maturity(model, settings)}"
    if "created_at" not in model.lineage:
        return Diagnosis("champion", "ok", f"{told}; it does not say when it was made")
    made = _days_since(model.lineage["created_at"], now=now)
    if made > STALE_DAYS:
        what = "see why no training since made a better one, and retrain"
        return Diagnosis("champion", "warn", f"{told}, but was made {made:.0f} days ago: {what}")
    return Diagnosis("champion", "ok", f"{told}; it was made {max(made, 0):.0f} days ago")


def _own_maturity(model: FraudModel, settings: Settings) -> str:
    """That its features are made otherwise than the next model's would be, if so; it is served with its own."""
    of_model, here = model.feature_config.label_maturity, settings.label_maturity
    if of_model == here:
        return ""
    day = timedelta(days=1)
    return f" (with its label maturity of {of_model / day:g} days; the settings here, for the next, say {here / day:g})"


def check_days(settings: Settings, *, now: Callable[[], float] = time.time) -> Diagnosis:
    """Whether the day tables hold every day that they should, with features made from what is there now."""
    if not settings.tables_directory.exists():
        return Diagnosis("days", "ok", "not used here: nothing was ingested in this home directory")
    store = TableStore(settings.tables_directory)
    window = feature_window(FeatureConfig(label_maturity=settings.label_maturity), first=settings.first_day)
    moment = datetime.fromtimestamp(now(), UTC)
    last = expected_last(living=settings.living, ends=settings.calendar_end, now=moment)
    found = read_standing(store, window=window, last=last)
    if not found.current:
        return Diagnosis("days", "warn", f"{found.summary}: {REMEDY}")
    return Diagnosis("days", "ok", found.summary)


def check_keys(settings: Settings) -> Diagnosis:
    """Whether tokens can be verified, and whether nobody else can read what signs them."""
    if settings.jwt_keys is None and not settings.keys_file.exists():
        return Diagnosis("keys", "ok", "not used here: there are none, and who needs one first makes it")
    try:
        keys = read_keys(settings.keys_file)
    except KeyFileError as error:
        return Diagnosis("keys", "fail", str(error))
    return Diagnosis("keys", "ok", f"{len(keys)} can be read, by this user only where they are secret")


def check_clock(settings: Settings, *, now: Callable[[], float] = time.time) -> Diagnosis:
    """Whether this machine's clock goes with the database's, or else with the registry's."""
    started = now()
    told = _database_time(settings)
    other = "database" if told is not None else "registry"
    told = told if told is not None else _registry_time(settings)
    if told is None:
        return Diagnosis("clock", "ok", "there is no other machine to compare it with")
    off = (started + now()) / 2 - told
    if abs(off) > LEEWAY:
        what = "tokens are refused and events lie in the future: have both clocks set by NTP"
        return Diagnosis(
            "clock", "fail", f"is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the {other}'s: {what}"
        )
    return Diagnosis("clock", "ok", f"goes with the {other}'s")


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
    except Exception as error:  # noqa: BLE001 - the message may hold an address with a password, so its kind is told
        return Diagnosis(part, "fail", f"could not be looked at ({type(error).__name__}): see its settings")
