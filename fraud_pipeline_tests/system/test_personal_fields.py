"""Personal fields: one pseudonym at every door, and nowhere a raw value."""

import json
import re
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
import sqlalchemy as sa

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import read_transactions
from fraud_pipeline.defs.resources import SourceResource, build_resources
from fraud_pipeline.host.personal_key import PersonalKeyError, create_personal_key, read_personal_key
from fraud_pipeline.ingest.declaration import Declaration, DeclarationError, declaration_toml, read_declaration
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.personal_key import key_id
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.schema.own_fields import OwnField, transactions_schema
from fraud_pipeline.schema.personal_fields import PersonalFields
from fraud_pipeline.schema.pseudonyms import UNREADABLE, PersonalKey, is_pseudonym
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.entrances import GOOD, MICROSECONDS, NOW
from fraud_pipeline_tests.support.own_models import own_model
from serving.errors import RequestError
from serving.http.requests import RequestParser
from serving.runtime.personal import ServedPersonalFields
from serving.runtime.prometheus_metrics import Metrics
from serving.runtime.scoring_runtime import ScoringRuntime
from serving.stream.messages import BadMessage, MessageReader
from serving.stream.record_reader import ReadRecord
from serving.stream.records import Partition

DECLARED: Final = """\
[fields]
transaction_id = "transaction_id"
event_time = "event_time"
customer_id = "customer_id"
merchant_id = "merchant_id"
amount = "amount"

[own_fields.device_id]
type = "identifier"
column = "device_id"
personal = true

[own_fields.client_ip]
type = "ip"
column = "client_ip"
personal = true

[own_fields.contact]
type = "email"
column = "contact"
personal = true

[own_fields.memo]
type = "text"
column = "memo"
personal = true

[own_fields.plain]
type = "text"
column = "plain"
"""
SENT: Final[dict[str, Any]] = {
    "device_id": " D-0017 ",
    "client_ip": "2001:DB8:0:0::17",
    "contact": "jane.doe@example.com",
    "memo": "für Jane Doe",
    "plain": "stays",
}
NORMALISED: Final = {
    "device_id": "D-0017",
    "client_ip": "2001:db8::17",
    "contact": "jane.doe@example.com",
    "memo": "für Jane Doe",
}
RAW: Final = re.compile(r"jane|0017|::17", re.IGNORECASE)
PERSONAL: Final = tuple(NORMALISED)


@dataclass(frozen=True, slots=True)
class SentRecord:
    """A record as a client reads it."""

    value: bytes | None
    offset: int = 5
    timestamp: int = MICROSECONDS // 1_000
    key: bytes | None = b"c-1"
    headers: tuple[tuple[str, bytes], ...] = ()


@pytest.fixture
def declaration() -> Declaration:
    return read_declaration(DECLARED)


@pytest.fixture
def settings(tmp_path: Path, declaration: Declaration) -> Settings:
    """A home that learns from a file of two transactions; the second has values that cannot be read."""
    rows = pd.DataFrame(
        [
            {**GOOD, **SENT},
            {**GOOD, "transaction_id": "odd", **SENT, "contact": "jane at home", "client_ip": "10.0.17", "memo": ""},
        ]
    )
    rows.to_csv(tmp_path / "bank.csv", index=False)
    return Settings(home=tmp_path / "home", data_path=tmp_path / "bank.csv", declaration=declaration)


def rows_of(settings: Settings) -> pd.DataFrame:
    """The rows that the first door gives, before anything is stored."""
    resource = build_resources(settings)["source"]
    assert isinstance(resource, SourceResource)
    return resource.source().transactions(start=pd.Timestamp(0, tz="UTC"), end=pd.Timestamp("2100-01-01", tz="UTC"))


def accepted(settings: Settings) -> dict[str, Any]:
    assert settings.declaration is not None
    raw = rows_of(settings)
    assert not RAW.search(raw.to_csv())
    result = validate(raw, now=pd.Timestamp(NOW), own_fields=settings.declaration.own_fields)
    transactions_schema(settings.declaration.own_fields).validate(result.accepted)
    (row,) = result.accepted[result.accepted["transaction_id"] == "good"].to_dict("records")
    return {str(name): value for name, value in row.items()}


def personal(settings: Settings) -> PersonalFields:
    assert settings.declaration is not None
    return PersonalFields.among(settings.declaration.own_fields, key=read_personal_key(settings.personal_key_file))


def own(row: TransactionRow | BadMessage) -> dict[str, Any]:
    assert isinstance(row, TransactionRow)
    values: dict[str, Any] = json.loads(row.own_fields or "{}")
    return values


def message(sent: dict[str, Any], **fixed: Any) -> bytes:
    return json.dumps({"schema": 1, **GOOD, **fixed, "currency": "EUR", "own_fields": sent}).encode()


class TestEveryDoor:
    def test_a_file_a_query_a_request_and_a_message_give_one_pseudonym(
        self, tmp_path: Path, settings: Settings, declaration: Declaration
    ) -> None:
        of_file = accepted(settings)
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'bank.db'}")
        pd.read_csv(tmp_path / "bank.csv", dtype=str).to_sql("payments", engine, index=False)
        engine.dispose()
        query = tmp_path / "bank.sql"
        query.write_text("SELECT * FROM payments WHERE event_time >= :start AND event_time < :end")
        of_query = accepted(
            settings.model_copy(update={"data_path": query, "data_url": f"sqlite:///{tmp_path / 'bank.db'}"})
        )
        fields = personal(settings)
        by_name = {field.name: field for field in declaration.own_fields}
        body = json.dumps({**GOOD, "currency": "EUR", "own_fields": SENT}).encode()
        options: dict[str, Any] = {"currency": "EUR", "declared": lambda: by_name, "personal": lambda: fields}
        of_http = own(RequestParser(max_batch=1, **options).transaction(body, now=MICROSECONDS))
        of_kafka = own(MessageReader(**options).transaction_message(message(SENT), [], now=MICROSECONDS))

        key = read_personal_key(settings.personal_key_file)
        expected = {name: key.pseudonym(text) for name, text in NORMALISED.items()} | {"plain": "stays"}
        assert all(is_pseudonym(expected[name]) for name in PERSONAL)
        assert {name: of_file[name] for name in SENT} == expected
        assert {name: of_query[name] for name in SENT} == expected
        assert of_http == of_kafka == expected

    def test_a_value_that_its_field_cannot_hold_is_emptied_and_counted(self, settings: Settings) -> None:
        assert settings.declaration is not None
        raw = rows_of(settings)
        (odd,) = raw[raw["transaction_id"] == "odd"].to_dict("records")
        assert (odd["contact"], odd["client_ip"], odd["memo"]) == (UNREADABLE, UNREADABLE, None)
        result = validate(raw, now=pd.Timestamp(NOW), own_fields=settings.declaration.own_fields)
        assert dict(result.emptied) == {"contact": 1, "client_ip": 1}

    def test_pseudonyms_may_pass_several_doors(self, settings: Settings) -> None:
        rows = rows_of(settings)
        pd.testing.assert_frame_equal(personal(settings).rows(rows), rows)

    def test_no_table_may_hold_a_raw_value(self, declaration: Declaration, settings: Settings) -> None:
        plain = settings.model_copy(update={"declaration": read_declaration(DECLARED.replace("personal = true\n", ""))})
        raw = rows_of(plain)
        result = validate(raw, now=pd.Timestamp(NOW), own_fields=declaration.own_fields)
        with pytest.raises(Exception, match="str_matches"):
            transactions_schema(declaration.own_fields).validate(result.accepted)

    def test_another_key_gives_other_versions_of_the_days_and_reports_stay(self, settings: Settings) -> None:
        def versions() -> Any:
            resource = build_resources(settings)["source"]
            assert isinstance(resource, SourceResource)
            span = pd.Timestamp("2026-06-01", tz="UTC"), pd.Timestamp("2026-06-02", tz="UTC")
            (version,) = resource.source().day_versions(start=span[0], end=span[1]).values()
            return version

        first = versions()
        assert versions() == first
        settings.personal_key_file.unlink()
        second = versions()
        assert second.transactions != first.transactions
        assert second.reports == first.reports


class TestTheStream:
    def letter(self, settings: Settings, value: bytes | None) -> tuple[bytes | None, dict[str, bytes]]:
        rows_of(settings)
        read = ReadRecord(Partition("transactions", 0), SentRecord(value), BadMessage("missing", "amount"))
        sent = read.dead_letter(BadMessage("missing", "amount"), personal=personal(settings))
        return sent.value, dict(sent.headers)

    def test_a_dead_letter_holds_pseudonyms_and_can_be_replayed(
        self, settings: Settings, declaration: Declaration
    ) -> None:
        value, headers = self.letter(settings, message(SENT | {"contact": "jane at home"}))
        assert value is not None
        assert not RAW.search(value.decode())
        assert not RAW.search(repr(headers))
        fields, by_name = personal(settings), {field.name: field for field in declaration.own_fields}
        reader = MessageReader(currency="EUR", declared=lambda: by_name, personal=lambda: fields)
        assert reader.transaction_message(value, [], now=MICROSECONDS) == BadMessage("wrong_type", "own_fields.contact")
        mended, _ = self.letter(settings, message(SENT))
        first = reader.transaction_message(message(SENT), [], now=MICROSECONDS)
        assert reader.transaction_message(mended, [], now=MICROSECONDS) == first

    @pytest.mark.parametrize(
        "value",
        [
            json.dumps({"contact": "jane@example.com", "amount": 3}).encode(),
            json.dumps({"a": [{"deep": {"memo": {"to": "Jane"}}}]}).encode(),
            b'{"own_fields":{"contact":"jane@example.com","contact":"p_aaaaaaaaaaaaaaaaaaaaaaaaaa"}}',
            json.dumps({"own_fields": {"contact": ["jane@example.com"]}}).encode("utf-16"),
        ],
    )
    def test_personal_names_are_replaced_wherever_they_are(self, settings: Settings, value: bytes) -> None:
        kept, headers = self.letter(settings, value)
        assert kept
        assert not RAW.search(kept.decode())
        assert "dead-letter-withheld" not in headers

    @pytest.mark.parametrize(
        "value", [b'{"contact":"jane@exam', b"jane", b'"{\\"memo\\": \\"Jane\\"}"', b"\xff\xfejane"]
    )
    def test_a_value_that_is_no_object_is_withheld(self, settings: Settings, value: bytes) -> None:
        kept, headers = self.letter(settings, value)
        assert kept == b""
        assert headers["dead-letter-withheld"] == b"yes"
        assert headers["dead-letter-offset"] == b"5"

    def test_a_letter_without_personal_names_keeps_its_bytes(self, settings: Settings) -> None:
        value = b'{ "schema": 1,  "own_fields": {"plain": "stays"}}'
        assert self.letter(settings, value)[0] == value


class TestTheScorer:
    @pytest.fixture
    def memory(self) -> Iterator[Database]:
        with closing(Database("sqlite://")) as database:
            database.upgrade()
            yield database

    def test_what_was_stored_before_a_field_became_personal_is_answered_as_before(
        self, memory: Database, settings: Settings
    ) -> None:
        rows_of(settings)
        fields = personal(settings)
        plain = MessageReader(currency="EUR").transaction_message(message(SENT), [], now=MICROSECONDS)
        reader = MessageReader(currency="EUR", personal=lambda: fields)
        now, other = (
            reader.transaction_message(message(SENT | changed), [], now=MICROSECONDS)
            for changed in ({}, {"contact": "john@example.com"})
        )
        assert isinstance(plain, TransactionRow)
        assert isinstance(now, TransactionRow)
        assert isinstance(other, TransactionRow)
        scorer = Scorer(database=memory, champion=lambda: None, as_stored_now=fields.row)
        (first,) = scorer.score([plain])
        (again,) = scorer.score([now])
        assert isinstance(first, ScoringResult)
        assert again == replace(first, replayed=True)
        assert scorer.score([other]) == [Conflict("good")]
        stored = read_transactions(memory, start=pd.Timestamp(0, tz="UTC"), end=pd.Timestamp(NOW), with_own_fields=True)
        assert len(stored) == 1


def champion_of(settings: Settings, key: PersonalKey) -> FraudModel:
    """A model that was trained with this key, exported for serving."""
    assert settings.declaration is not None
    declared = [field for field in settings.declaration.own_fields if field.personal]
    model = own_model((OwnField(name="age", type="number"), *declared))
    config = model.feature_config
    own_inputs = replace(config.own_inputs, personal_key=key.id)
    return replace(model, feature_config=replace(config, own_inputs=own_inputs))


class TestTheKey:
    def test_it_is_made_once_for_its_owner_only(self, settings: Settings) -> None:
        assert settings.declaration is not None
        rows_of(settings)
        made = settings.personal_key_file
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
        assert create_personal_key(made) == read_personal_key(made)
        assert made.read_text().strip() not in repr(read_personal_key(made))
        assert key_id(made, settings.declaration.own_fields) == read_personal_key(made).id
        assert sorted(path.name for path in made.parent.glob(".*")) == []

    def test_a_key_that_a_setting_names_is_never_made(self, settings: Settings, tmp_path: Path) -> None:
        named = settings.model_copy(update={"personal_key": tmp_path / "mounted.key"})
        with pytest.raises(PersonalKeyError, match="copy it from where it is"):
            rows_of(named)
        assert not (tmp_path / "mounted.key").exists()

    @pytest.mark.parametrize("content", ["", "00ff", "no digits", "\x00" * 64])
    def test_a_damaged_key_is_refused_without_its_content(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "personal.key").write_text(content)
        with pytest.raises(PersonalKeyError, match="restore the file, which holds 64 hexadecimal digits") as caught:
            read_personal_key(tmp_path / "personal.key")
        assert not content or content not in str(caught.value)

    def test_a_lost_key_is_not_replaced_while_a_champion_needs_it(self, settings: Settings, tmp_path: Path) -> None:
        rows_of(settings)
        key = read_personal_key(settings.personal_key_file)
        champion_of(settings, key).save(tmp_path / "trained")
        publish(tmp_path / "trained", link=settings.champion_directory, version=1)
        settings.personal_key_file.unlink()
        with pytest.raises(PersonalKeyError, match=f"trained with key {key.id}: restore the file"):
            rows_of(settings)

    def test_a_service_refuses_a_model_of_another_key_and_stores_no_raw_value_meanwhile(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        rows_of(settings)
        key = read_personal_key(settings.personal_key_file)
        champion_of(settings, key).save(tmp_path / "trained")
        served = Settings(home=tmp_path / "service")
        publish(tmp_path / "trained", link=served.champion_directory, version=1)
        create_personal_key(served.personal_key_file)
        for has_key in (True, False):
            with closing(ScoringRuntime(served, metrics=Metrics())) as runtime:
                runtime.champion.check_now()
                assert runtime.champion.current() is None
                stored = runtime.personal_fields().values(SENT)
                assert stored == dict.fromkeys(PERSONAL, UNREADABLE) | {"plain": "stays"}, has_key
            served.personal_key_file.unlink(missing_ok=True)
        served.personal_key_file.write_text(settings.personal_key_file.read_text())
        with closing(ScoringRuntime(served, metrics=Metrics())) as runtime:
            runtime.champion.check_now()
            assert runtime.champion.current() is not None
            assert runtime.personal_fields().values(SENT)["contact"] == key.pseudonym(NORMALISED["contact"])
            assert runtime.declared_own_fields()["contact"].personal

    def test_settings_decide_before_there_is_a_champion(self, settings: Settings) -> None:
        with pytest.raises(PersonalKeyError, match=r"personal\.key"):
            ServedPersonalFields(settings, champion=lambda: None)
        rows_of(settings)
        fields = ServedPersonalFields(settings, champion=lambda: None)()
        assert set(fields.fields) == set(PERSONAL)


class TestTheDeclaration:
    def test_toml_keeps_it_and_days_without_it_keep_their_version(self, declaration: Declaration) -> None:
        assert read_declaration(declaration_toml(declaration)) == declaration
        plain = read_declaration(DECLARED.replace("personal = true\n", ""))
        assert plain.id != declaration.id
        # The id that the release before had for this declaration.
        assert plain.id == "25a70ead1b4f2c7a"

    @pytest.mark.parametrize("type_", ["number", "category", "money", "boolean", "time", "country"])
    def test_only_opaque_texts_are_personal(self, type_: str) -> None:
        with pytest.raises(DeclarationError, match=rf"line 1.*type {type_} cannot be personal.*remove personal"):
            read_declaration(f'[own_fields.x]\ntype = "{type_}"\ncolumn = "x"\npersonal = true\n')

    def test_a_wrong_value_is_named_at_its_line(self) -> None:
        with pytest.raises(DeclarationError, match="line 4, own_fields.x.personal"):
            read_declaration('[own_fields.x]\ntype = "ip"\ncolumn = "x"\npersonal = "perhaps"\n')


def test_refusals_quote_no_value(declaration: Declaration) -> None:
    by_name = {field.name: field for field in declaration.own_fields}
    parser = RequestParser(currency="EUR", max_batch=1, declared=lambda: by_name)
    body = json.dumps({**GOOD, "currency": "EUR", "own_fields": SENT | {"contact": "jane at home"}}).encode()
    with pytest.raises(RequestError) as caught:
        parser.transaction(body, now=MICROSECONDS)
    assert not RAW.search(f"{caught.value!r} {caught.value.fields}")


def test_stored_tables_hold_no_raw_value(settings: Settings) -> None:
    store = TableStore(settings.tables_directory)
    raw = rows_of(settings)
    day = pd.Timestamp(NOW).date()
    store.write_days("raw_transactions", raw, time_column="event_time", days=[day], notes={day: "v"})
    content = b"".join(path.read_bytes() for path in settings.tables_directory.rglob("*") if path.is_file())
    assert b"good" in content
    assert not RAW.search(content.decode("latin-1"))
