"""Settings of the system, read from the environment (`FRAUD_...`) and from `settings.env` in the home directory.

Belongs here: names, defaults, ranges, places of files. Must not be here: anything that acts on a setting. The
environment takes precedence over the file. Both take precedence over the source that `fraud-detect train` records
(`ingest/source_choice.py`). People write `settings.env`; no command does, except `demo` in a home of its own.
"""

import hashlib
import os
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fraud_pipeline.host.data_location import DataLocation, below, data_location
from fraud_pipeline.host.local_paths import local_path
from fraud_pipeline.host.logs import LogFormat, LogLevel
from fraud_pipeline.ingest.declaration import Declaration, read_declaration
from fraud_pipeline.ingest.source_choice import (
    DatabaseUrl,
    DataPath,
    FileChoice,
    SourceChoice,
    SyntheticChoice,
    read_choice,
)

SourceKind = Literal["served", "file", "synthetic", "none"]
HOME_VARIABLE: Final = "FRAUD_HOME"
SETTINGS_FILE: Final = "settings.env"
_LONGEST_RETENTION: Final = timedelta(days=36_500)
# Features read a month of days whose labels have matured, and no partial day.
_MATURED_DAYS: Final = timedelta(days=32)


def home_directory() -> Path:
    """The directory of all state: `$FRAUD_HOME`, or `.fraud` in the working directory. Raises ValueError for a URL."""
    return local_path(os.environ.get(HOME_VARIABLE) or ".fraud").resolve()


def _declared(value: object) -> object:
    """The declaration in the file that a setting names."""
    if not isinstance(value, str):
        return value
    path = local_path(value)
    try:
        return read_declaration(path.read_text(encoding="utf-8"), path=path)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path}: cannot be read ({type(error).__name__}): name a fraud.toml") from None


def _store_url(value: object) -> object:
    """The URL of an object store as one text. Raises ValueError for a path."""
    if not isinstance(value, str) or not value:
        return value
    location = data_location(value)
    if isinstance(location, Path):
        raise ValueError("tables of this machine lie in the home directory: set FRAUD_HOME, or write s3://BUCKET/PATH")  # noqa: TRY004 - pydantic expects it
    return str(location)


def _retention(days: int, *, least: int, of: str) -> Any:
    """A setting that says how many days something is kept."""
    return Field(timedelta(days=days), ge=timedelta(days=least), le=_LONGEST_RETENTION, description=of)


class Settings(BaseSettings):
    """One deployment's settings; build it with `load_settings()`."""

    model_config = SettingsConfigDict(
        env_prefix="FRAUD_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    home: Path = Field(default_factory=home_directory, description="home directory: all state of one deployment")

    # Data
    first_day: date = Field(date(2026, 1, 1), description="first day of the calendar of daily partitions")
    last_day: date | None = Field(None, description="last day of the calendar; empty: it grows every day")
    data_path: Annotated[DataPath | None, NoDecode] = Field(
        None, description="file, directory, pattern or Delta table, here or at s3://, gs:// or az://; empty: no source"
    )
    tables_url: Annotated[str, BeforeValidator(_store_url)] = Field(
        "", description="s3://, gs:// or az:// URL below which tables lie; empty: in the home directory"
    )
    data_url: DatabaseUrl = Field(
        "", description="SQLAlchemy URL, without a password, of the database on which the query in data_path runs"
    )
    synthetic: bool = Field(
        False, description="days come from the synthetic world: for a first look, never mixed with a bank's"
    )
    columns: str = Field("", description="our_name=file_column pairs, comma separated")
    declaration: Annotated[Declaration | None, NoDecode, BeforeValidator(_declared)] = Field(
        None, description="fraud.toml that says which column of the file is which field, instead of columns"
    )
    label_delay: timedelta = Field(timedelta(days=7), description="from event to report, for files with only a label")
    label_maturity: timedelta = Field(
        timedelta(days=21), description="an unreported transaction counts as legitimate after this long"
    )
    learn_from_served: bool = Field(
        False, description="days come from the database, as served and reported, and the calendar goes on"
    )
    max_rejected_share: float = Field(0.05, ge=0, le=1, description="a run with more rejected rows than this stops")

    # Synthetic world
    seed: int = Field(7, description="seed of the synthetic world and of the search")
    difficulty: float = Field(0.5, ge=0, le=1, description="how closely fraudsters imitate their victim")

    world_first_day: date | None = Field(
        None, description="first day of the synthetic world; empty: as remembered by `train`, or else first_day"
    )

    # Training
    gap: timedelta = Field(
        timedelta(days=3), description="between train, tune, calibrate and test: no episode straddles"
    )
    warm_up: timedelta = Field(timedelta(days=14), description="first days, whose windows are not full yet")
    n_trials: int = Field(12, ge=1, description="Optuna trials")
    tuning_timeout: timedelta = Field(timedelta(minutes=30), description="no new trial starts after this long")
    tuning_workers: int = Field(1, ge=1, description="parallel Optuna workers sharing one study")

    # Policy
    precision_floor: float = Field(0.85, gt=0, lt=1, description="blocks must be right at least this often")
    alert_budget_per_day: float = Field(20, gt=0, description="transactions per day that analysts can review")
    decide_by: Literal["expected_cost", "thresholds"] = Field(
        "expected_cost", description="expected_cost: probability and amount decide; thresholds: the probability alone"
    )
    review_cost_cents: int = Field(500, ge=0, description="one analyst looking at one transaction")
    review_friction_cents: int = Field(0, ge=0, description="one good customer who waits for a review")
    false_block_cost_cents: int = Field(2_000, ge=0, description="one good customer turned away")
    zero_amount_fraud_cost_cents: int = Field(
        10_000, gt=0, description="what a fraud costs whose amount is 0, as in files without amounts"
    )
    holdout_share: float = Field(
        0.0, ge=0, le=0.2, description="of the model's would-be blocks, reviewed instead to keep it measurable"
    )

    rule_approval: bool = Field(
        False, description="an analysts' rule is activated by another person than the author of its version"
    )

    # Personal fields
    personal_key: Path | None = Field(
        None, description="file of the key of personal own fields; empty: personal.key, which the first ingest makes"
    )

    # Database and memory
    database_url: str = Field(
        "", description="SQLAlchemy URL of PostgreSQL; empty: a SQLite file in the home directory"
    )
    statement_timeout: timedelta = Field(timedelta(seconds=2), description="a slower SQL statement is given up")
    history_cache_events: int = Field(
        2_000_000, ge=0, description="events, and as many merchants' days, that a process remembers; at most twice that"
    )

    # How long rows and files are kept; docs/how-to/operations.md lists what each setting covers
    history_retention: timedelta = _retention(
        180, least=62, of="events and fraud reports older than this leave the database; reports may be this late"
    )
    decision_retention: timedelta = _retention(
        365,
        least=62,
        of="decisions, and with them the promise that an id is decided once; as long as the history at least",
    )
    shadow_retention: timedelta = _retention(180, least=62, of="shadow scores of challengers")
    alert_retention: timedelta = _retention(730, least=30, of="alerts and the steps of analysts")
    report_retention: timedelta = _retention(1_095, least=180, of="figures and verdicts of the daily reports")
    report_page_retention: timedelta = _retention(90, least=1, of="daily reports as pages")
    study_retention: timedelta = _retention(30, least=1, of="journals from which an interrupted search continues")

    # Service
    currency: str = Field(
        "EUR",
        pattern="^[A-Z]{3}$",
        description="the one currency of all amounts, unless the model has rates of several",
    )
    http_workers: int = Field(1, ge=1, description="processes that answer requests")
    max_batch_transactions: int = Field(1_000, ge=1, description="transactions in one /score_batch request")
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="a larger request body is refused unread")
    max_in_flight: int = Field(128, ge=1, description="requests at once per process; more are turned away early")
    max_micro_batch: int = Field(128, ge=1, description="waiting transactions that are scored together")
    rate_limit_per_second: int = Field(2_000, ge=1, description="requests per client and second")
    rate_limit_storage: str = Field(
        "", description="redis:// URL that all workers share; empty: memory of each process"
    )
    max_blocks_per_minute: int = Field(
        60, ge=1, description="more blocks of one minute's transactions become reviews and raise an alarm"
    )
    champion_poll_interval: timedelta = Field(timedelta(seconds=5), description="interval of checks for a new champion")
    shadow_challenger: bool = Field(False, description="the challenger scores too, off the answer's path")

    # Authorization
    jwt_issuer: str = Field("fraud-detect", description="issuer that tokens must name")
    jwt_audience: str = Field("fraud-detect-http", description="audience that tokens must name")
    jwt_keys: Path | None = Field(
        None, description="JWK set of the keys that tokens may be signed with; empty: keys.json"
    )
    public_keys: Path | None = Field(
        None, description="file for the public halves of the keys, for processes that only verify; empty: none"
    )

    # Operations
    service_url: str = Field(
        "http://127.0.0.1:8080",
        pattern=r"^https?://",
        description="URL of the HTTP service, where the dashboard reads latencies",
    )
    log_format: LogFormat = Field("text", description="lines of the log: text, or json with one object per line")
    log_level: LogLevel = Field("WARNING", description="lines below this level are not logged")
    owner: str = Field("fraud-ml@example.com", description="owner shown on every asset: an e-mail or team:name")
    schedules_enabled: bool = Field(True, description="schedules and sensors start switched on")
    mlflow_tracking_uri: str = Field("", description="MLflow server; empty: a SQLite file in the home directory")
    model_name: str = Field("fraud_model", description="name of the model in the MLflow registry")
    alert_webhook_url: str = Field(
        "", description="failed runs, red reports and new alerts are posted here as JSON; empty: only logged"
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.resolve()

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        return self.checked()

    def checked(self) -> Self:
        """These settings after a check of their combination; call it on every copy with other values.

        Raises ValueError that says what to change.
        """
        if self.synthetic and self.data_path is not None:
            raise ValueError("FRAUD_DATA_PATH and FRAUD_SYNTHETIC name two sources: keep one of them")
        if self.data_url and self.data_path is None:
            raise ValueError("FRAUD_DATA_URL is the database of a query: set FRAUD_DATA_PATH to its file, too")
        if self.columns and self.declaration is not None:
            raise ValueError("columns and declaration both say what the columns of the file are: keep one of them")
        if self.history_retention < self.label_maturity + _MATURED_DAYS:
            raise ValueError(
                "history_retention: features look back further than that with this label_maturity; "
                f"set FRAUD_HISTORY_RETENTION to {(self.label_maturity + _MATURED_DAYS).days + 1} days or more"
            )
        if "decision_retention" in self.model_fields_set and self.decision_retention < self.history_retention:
            raise ValueError(
                "decision_retention: reports and training look at the decisions on all of the history; "
                "set FRAUD_DECISION_RETENTION to FRAUD_HISTORY_RETENTION or more"
            )
        return self

    @property
    def source_kind(self) -> SourceKind:
        """The source of days; `none` until a person chooses one."""
        return "served" if self.learn_from_served else self.history_kind

    @property
    def history_kind(self) -> Literal["file", "synthetic", "none"]:
        """The source of days before the first served one."""
        return "file" if self.data_path is not None else "synthetic" if self.synthetic else "none"

    @property
    def living(self) -> bool:
        """Whether new days come by themselves, so that missing ones are a fault. A world without a first day of its own
        is for tests: it has as many days as somebody asks for.
        """
        return self.source_kind in ("served", "file") or (self.synthetic and self.world_first_day is not None)

    @property
    def calendar_end(self) -> date | None:
        """The last day of the calendar; None: it grows every day."""
        return None if self.learn_from_served else self.last_day

    @property
    def world_begins(self) -> date:
        """The first day of the synthetic world."""
        return self.world_first_day or self.first_day

    @property
    def source_id(self) -> str:
        """The identity of the source: equal for two runs that may learn from each other's rows.

        Served rows have the identity of the same bank's history. How a file is read does not change the identity.
        """
        if self.data_path is not None:
            return f"file-{hashlib.sha256(f'{self.data_path.resolve()}{self._database}'.encode()).hexdigest()[:16]}"
        return self._world if self.synthetic else self.source_kind

    @property
    def source_name(self) -> str:
        """The source in words."""
        named = f"{'query' if self.data_url else 'file'} {self.data_path and self.data_path.name}"
        history = {
            "file": named,
            "synthetic": "synthetic world",
            "none": "",
        }
        name = history[self.history_kind]
        if self.learn_from_served:
            return f"served transactions ({name} before them)" if name else "served transactions"
        return name or "no source"

    @property
    def kept_decisions(self) -> timedelta:
        """How long decisions are kept: by default as long as their history."""
        return max(self.decision_retention, self.history_retention)

    @property
    def tables_directory(self) -> Path:
        """Where tables lie on this machine, those of one source: rows of two must never meet in one training set."""
        names = {"served": "served", "file": self._history_name, "synthetic": self._world, "none": "none"}
        return self.home / "tables" / names[self.source_kind]

    @property
    def tables_root(self) -> DataLocation:
        """Where the tables of all sources lie."""
        return data_location(self.tables_url) if self.tables_url else self.home / "tables"

    @property
    def tables_location(self) -> DataLocation:
        """Where the tables of this source lie: `tables_directory`, or the directory of that name below `tables_url`."""
        return below(self.tables_root, self.tables_directory.name)

    @property
    def _world(self) -> str:
        """The synthetic world of these settings. The same seed makes another world from another first day on."""
        default = Settings.model_fields["first_day"].default
        # The first day of a deployment that learns from served rows says nothing about the world before it.
        begins = self.world_first_day or (default if self.learn_from_served else self.first_day)
        return self._seeded if begins == default else f"{self._seeded}-{begins}"

    @property
    def stored_worlds(self) -> list[date]:
        """The first days of those worlds of this seed whose tables this home has, in order."""
        named = re.compile(rf"{re.escape(self._seeded)}(?:-(\d{{4}}-\d\d-\d\d))?")
        from fraud_pipeline.storage.table_files import directories_below  # noqa: PLC0415 - pyarrow takes long to load

        names = [directory.name for directory in directories_below(self.tables_root)]
        days = [match[1] for match in map(named.fullmatch, names) if match]
        return sorted(date.fromisoformat(day) if day else Settings.model_fields["first_day"].default for day in days)

    @property
    def _seeded(self) -> str:
        return f"synthetic-{self.seed}-{self.difficulty:g}"

    @property
    def _history_name(self) -> str:
        if self.data_path is None:
            return self._seeded
        # Own fields may come and go; what the fixed ones are read from decides whose events and labels these are.
        reading = self.declaration.fixed_id if self.declaration else self.columns
        source = f"{self.data_path}{self._database}\n{reading}\n{self.label_delay.total_seconds()}"
        stem = re.sub(r"[*?\[\]]", "_", self.data_path.stem)  # of a pattern; a URL of SQLite would end at its `?`
        return f"{stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"

    @property
    def _database(self) -> str:
        """The database of a query as a part of the source's identity; other sources have none."""
        return f"\n{self.data_url}" if self.data_url else ""

    @property
    def model_directory(self) -> Path:
        """Working copies of models, one directory per stage."""
        return self.home / "models"

    @property
    def champion_directory(self) -> Path:
        """The exported champion, which serving reads without the registry."""
        return self.home / "champion"

    @property
    def challenger_directory(self) -> Path:
        """The exported challenger, for scoring in shadow."""
        return self.home / "challenger"

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database of decisions."""
        # One source's history must never mix with another's. The stored decisions are kept when learning from served
        # rows begins, when the first day changes, and when the synthetic world is chosen after no source.
        return self.database_url or f"sqlite:///{self.home / f'{self._history_name}.db'}"

    @property
    def report_directory(self) -> Path:
        """Daily reports as pages."""
        return self.home / "reports"

    @property
    def study_directory(self) -> Path:
        """Journals of searches, one file per training set."""
        return self.model_directory / "studies"

    @property
    def keys_file(self) -> Path:
        """The file of the keys that sign and verify tokens."""
        return self.jwt_keys or self.home / "keys.json"

    @property
    def personal_key_file(self) -> Path:
        """The file of the key that makes pseudonyms of personal own fields."""
        return self.personal_key or self.home / "personal.key"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def tracking_uri(self) -> str:
        return self.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifact_directory(self) -> Path | None:
        """The directory of MLflow's files when its store is our own database file; a server has its own place."""
        return None if self.mlflow_tracking_uri else self.home / "mlflow-artifacts"


def load_settings() -> Settings:
    """Settings of the current home directory, with the source that is remembered there.

    Pydantic's error names a bad variable and its range. Raises SourceChoiceError for a damaged choice.
    """
    return with_choice(explicit_settings(), read_choice(home_directory()))


def explicit_settings() -> Settings:
    """Settings of the environment and of `settings.env` alone; `model_fields_set` names the given ones."""
    return Settings(_env_file=home_directory() / SETTINGS_FILE)


def with_choice(explicit: Settings, choice: SourceChoice | None) -> Settings:
    """Explicit settings, completed by the choice where it is about the same source as they are."""
    if choice is None or not agrees(explicit, choice):
        return explicit
    given = explicit.model_fields_set
    # A calendar that was set begins with its world, unless the days are served ones.
    given = given | {"world_first_day"} if "first_day" in given and not explicit.learn_from_served else given
    # Explicit words on the columns, in either form, leave none of the remembered ones.
    given = given | {"columns", "declaration"} if given & {"columns", "declaration"} else given
    missing = {name: value for name, value in choice.settings().items() if name not in given}
    return explicit.model_copy(update=missing).checked()


def agrees(explicit: Settings, choice: SourceChoice) -> bool:
    """Whether explicit settings name the source of the choice, or none."""
    if explicit.data_path is not None:
        if not isinstance(choice, FileChoice) or explicit.data_url not in ("", choice.data_url):
            return False
        return choice.data_path == explicit.data_path.resolve()
    if explicit.synthetic:
        return isinstance(choice, SyntheticChoice)
    # An earlier choice of the synthetic world says nothing about the transactions that are served now.
    return isinstance(choice, FileChoice) or not explicit.learn_from_served


def setting_errors(error: ValidationError) -> str:
    """Each invalid setting with its problem and its place, in one line without any value."""
    prefix = "kafka_" if error.title == "KafkaSettings" else ""
    return "; ".join(
        f"{where_set(prefix + str(detail['loc'][0])) if detail['loc'] else 'together'}: {detail['msg']}"
        for detail in error.errors()
    )


def in_one_line(error: Exception) -> str:
    """The problem and its remedy, for the line that a program ends with."""
    if isinstance(error, ValidationError):
        return f"a FRAUD_ setting is wrong: {setting_errors(error)}"
    return " ".join(str(error).split())


def where_set(name: str) -> str:
    """The place of an explicit setting: the variable's name, and the environment or the file."""
    variable = f"{Settings.model_config['env_prefix']}{name}".upper()
    place = "the environment" if os.environ.get(variable) else str(home_directory() / SETTINGS_FILE)
    return f"{variable} in {place}"
