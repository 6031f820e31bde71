"""The one table of fields: every name, type, limit, reason and remedy of a transaction and its label is stated here.

Belongs here: the fields as data, and lookups in the table. Must not be here: how an entrance reads a value. The schemas
of stored tables, the validation of files, the HTTP and Kafka models, OpenAPI, the SQL columns, the column mapping and
the documentation are generated from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal[
    "identifier",  # opaque text: letter case and leading zeros count, and a damaged one is refused
    "text",  # short text that may look like anything, also like a number
    "time",
    "amount",  # money in currency units, stored as whole cents
    "coordinate",  # degrees
    "choice",  # one of `allowed`
    "code",  # text that `pattern` matches
    "currency",  # the one currency of a service
    "flag",  # yes, no, or not known; `allowed` holds the spellings of yes, then those of no
]
Entrance = Literal["file", "request", "feedback"]
"""Files; transactions over HTTP and Kafka; labels over HTTP and Kafka."""


NO_MERCHANT: Final = "none"
"""The merchant of a transaction that has none; as an id this text holds nothing, so no merchant can have it."""

_MAX_TEXT_LENGTH: Final = 64
_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field; a limit that its kind does not use is empty.

    `column` is its name in stored tables; `when_missing` is what is stored there of a transaction that has none, which
    a required field without it refuses. `reason` is the code for text that is not what the field holds, `remedy` what
    to do then. `allowed` maps each value to its other spellings in files, `synonyms` are names of columns in files.
    """

    name: str
    kind: Kind
    description: str
    example: str | float | bool
    required: bool = False
    when_missing: str = ""
    entrances: tuple[Entrance, ...] = ("file", "request")
    column: str = ""
    max_length: int = 0
    pattern: str = ""
    allowed: Mapping[str, tuple[str, ...]] = dataclass_field(default_factory=dict)
    minimum: float = 0.0
    maximum: float = 0.0
    earliest: datetime = _EARLIEST
    max_ahead: timedelta = timedelta(0)
    together_with: str = ""
    reason: str = ""
    remedy: str = ""
    synonyms: tuple[str, ...] = ()

    @property
    def stored_as(self) -> str:
        """The column of stored tables."""
        return self.column or self.name


_TABLE: Final = (
    Field(
        name="transaction_id",
        kind="identifier",
        description="identifies the transaction for ever; each id occurs once",
        example="t-20260131-000017",
        required=True,
        entrances=("file", "request", "feedback"),
        max_length=_MAX_TEXT_LENGTH,
        synonyms=("tx_id", "txn_id", "trans_id", "trans_num", "transaction", "transactionid"),
    ),
    Field(
        name="event_time",
        kind="time",
        description="when the card was used",
        example="2026-01-31T13:45:00Z",
        required=True,
        max_length=_MAX_TEXT_LENGTH,
        max_ahead=timedelta(minutes=5),
        reason="time_missing_or_unreadable",
        remedy="write the time as 2026-01-31T13:45:00Z, or map the right column to event_time",
        synonyms=(
            *("tx_datetime", "trans_date_trans_time", "transaction_time", "transaction_datetime", "transaction_date"),
            *("timestamp", "datetime", "tx_time"),
        ),
    ),
    Field(
        name="customer_id",
        kind="identifier",
        description="who pays: a customer, account or card",
        example="c-4711",
        required=True,
        max_length=_MAX_TEXT_LENGTH,
        synonyms=("customer", "cc_num", "card_id", "card_number", "account_id", "client_id", "user_id"),
    ),
    Field(
        name="merchant_id",
        kind="identifier",
        description="who is paid: a merchant or terminal; empty where nobody is, as at a cash machine",
        example="m-0815",
        required=True,
        when_missing=NO_MERCHANT,
        max_length=_MAX_TEXT_LENGTH,
        synonyms=("merchant", "terminal_id", "merchant_name", "vendor_id"),
    ),
    Field(
        name="amount",
        kind="amount",
        description="what is paid, in currency units with the decimals of the currency; negative for a refund",
        example=412.9,
        required=True,
        column="amount_cents",
        minimum=-100_000_000,
        maximum=100_000_000,
        synonyms=("amt", "tx_amount", "transaction_amount", "trans_amount"),
    ),
    Field(
        name="currency",
        kind="currency",
        description="ISO 4217 code of the amount's currency: the service's, or one with a rate",
        example="EUR",
        required=True,
        entrances=("request",),
        max_length=_MAX_TEXT_LENGTH,
        reason="unknown_currency",
        remedy="write an ISO 4217 code such as EUR; /openapi.json lists the currencies of a service",
    ),
    Field(
        name="is_fraud",
        kind="flag",
        description="whether the transaction is fraud; empty where nobody knows",
        example=True,
        entrances=("file",),
        allowed=MappingProxyType(
            {
                "fraud": ("1", "1.0", "true", "t", "yes", "y", "fraudulent"),
                "legitimate": (
                    *("0", "0.0", "false", "f", "no", "n", "legit", "genuine", "ok"),
                    *("not fraud", "non-fraud", "not_fraud", "no fraud"),
                ),
            }
        ),
        synonyms=("tx_fraud", "isfraud", "fraud", "fraud_label", "label", "class"),
    ),
    Field(
        name="reported_at",
        kind="time",
        description="when the fraud was reported",
        example="2026-02-03T09:00:00Z",
        entrances=("file",),
        synonyms=("report_time", "reported_time", "fraud_reported_at"),
    ),
    Field(
        name="label",
        kind="choice",
        description="fraud: the cardholder did not make it; legitimate: the cardholder did",
        example="fraud",
        required=True,
        entrances=("feedback",),
        allowed=MappingProxyType({"fraud": (), "legitimate": ()}),
        reason="unknown_label",
    ),
    Field(
        name="category",
        kind="text",
        description="what kind of merchant; a merchant category code is fine",
        example="electronics",
        max_length=_MAX_TEXT_LENGTH,
        synonyms=("merchant_category", "merchant_category_code", "mcc"),
    ),
    Field(
        name="channel",
        kind="choice",
        description="how the card was used",
        example="online",
        allowed=MappingProxyType(
            {
                "chip": ("pos", "swipe", "card_present", "chip_and_pin", "magstripe"),
                "contactless": ("nfc", "tap"),
                "online": ("web", "ecom", "ecommerce", "e_commerce", "internet", "card_not_present", "cnp"),
                "atm": ("cash", "cash_withdrawal"),
                "transfer": ("wire", "bank_transfer"),
            }
        ),
        reason="unknown_channel",
        synonyms=("entry_mode", "pos_entry_mode", "payment_channel", "transaction_channel"),
    ),
    Field(
        name="country",
        kind="code",
        description="where the card was used: ISO 3166 alpha-2 code",
        example="DE",
        pattern="[A-Z]{2}",
        reason="bad_country",
        remedy="the country must be a two-letter ISO 3166 code such as DE, or empty",
        synonyms=("country_code", "merchant_country"),
    ),
    # Home positions (`lat`, `long` in some public files) are no synonyms: a position is where the card was used.
    Field(
        name="latitude",
        kind="coordinate",
        description="where the card was used, in degrees north",
        example=52.52,
        minimum=-90,
        maximum=90,
        together_with="longitude",
        synonyms=("merch_lat", "merchant_lat", "merchant_latitude"),
    ),
    Field(
        name="longitude",
        kind="coordinate",
        description="where the card was used, in degrees east",
        example=13.405,
        minimum=-180,
        maximum=180,
        together_with="latitude",
        synonyms=("merch_long", "merch_lon", "merchant_long", "merchant_lon", "merchant_longitude"),
    ),
)

FIELDS: Final[Mapping[str, Field]] = MappingProxyType({field.name: field for field in _TABLE})
"""Every field by its name, in the order in which fields are judged and documented."""


def fields_of(entrance: Entrance) -> tuple[Field, ...]:
    """The fields that an entrance takes."""
    return tuple(field for field in FIELDS.values() if entrance in field.entrances)


def transaction_fields() -> tuple[Field, ...]:
    """The fields of a stored transaction: those that files and requests both give."""
    return tuple(field for field in fields_of("file") if "request" in field.entrances)
