"""Names that people give to the columns of our fields, in the form of `column_names.spelled`, the plainest first.

Belongs here: names. Must not be here: values; a name alone decides nothing.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from fraud_pipeline.ingest.column_names import spelled
from fraud_pipeline.schema.fields import FIELDS

_TX: Final = r"(?:tx|txn|tran|trans|transaction|trx|event|payment|order|auth|authorization|purchase|buchung)"
_ID: Final = r"(?:id|ids|num|no|nr|number|ref|reference|key|uuid|guid|hash)"
_TIME: Final = r"(?:date_time|time_stamp|time|date|ts|dt|at|on|datum|zeit|utc|local)"
_PLACE: Final = r"(?:merch|merchant|tx|transaction|terminal|pos|location|store|shop|event)"

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "transaction_id": (
        rf"{_TX}_{_ID}",
        rf"{_TX}|{_ID}|{_TX}_{_TX}_{_ID}|{_TX}_unique_{_ID}|unique_{_ID}",
        rf"(?:claim|application|app|case|record|policy|payment|invoice|session|request|message)_{_ID}",
    ),
    "customer_id": (
        rf"(?:customer|client|cust|user|member|cardholder|kunde|kunden|cliente|entity|buyer|payer|consumer)(?:_{_ID})?|uid",
        rf"(?:account|acct|acc|konto|compte|cuenta|iban)(?:_{_ID})?|name_orig|orig_(?:account|acct|{_ID})",
        rf"(?:sender|from|source|originator|debtor|debit)(?:_(?:account|acct|{_ID}|account_{_ID}))?|nameorig",
        rf"(?:card|cc|credit_card|pan|karte)_{_ID}|card|cc|pan|card_1|card_{_ID}_hash|hashed_(?:card|pan)",
        rf"(?:policy|contract|insured|holder|person|employee|household|subscriber|email|phone)_{_ID}",
        r"(?:customer|buyer|user|client|payer)_email|email|email_address|p_emaildomain_id",
    ),
    "merchant_id": (
        rf"(?:merchant|merch|vendor|shop|store|seller|retailer|haendler|laden|comercio|beneficiary|payee)(?:_{_ID})?",
        rf"(?:terminal|pos|acceptor|mid|tid)(?:_{_ID})?|name_dest|dest_(?:account|acct|{_ID})|namedest",
        (
            rf"(?:merchant|merch|shop|store|vendor)_(?:name|nm|code|cd|desc)|(?:receiver|recipient|destination|dest|counterparty|"
            rf"creditor|to)(?:_(?:account|acct|{_ID}|account_{_ID}))?"
        ),
    ),
    "event_time": (
        rf"{_TX}_date_{_TX}_time|{_TX}_date_time|{_TX}_time_stamp|{_TX}_time|event_time|time_stamp|date_time",
        rf"{_TX}_{_TIME}|unix_time|(?:created|occurred|posted|booked|processed)(?:_{_TIME})?|unix_time_stamp|epoch(?:_.*)?",
        (
            rf"{_TIME}|when|day|step|time_step|fecha|heure|data|wann|buchungstag|buchungs_?datum|booking_date|valuta|"
            rf"(?:incident|accident|claim|loss|application|local|utc|start|request|session|login)_{_TIME}"
        ),
        r"(?:.*_)?(?:time_stamp|date_time|date|time|seconds?|elapsed)(?:_.*)?",
    ),
    "amount": (
        rf"(?:(?:{_TX}|total|net|gross|paid|billed)_)?(?:amount|amt)(?:_(?:[a-z]{{3}}|in_[a-z]{{3}}|local|value|cents?))?",
        (
            rf"(?:{_TX}|sale|total|basket|cart|ticket|invoice|item)_(?:price|value|total|sum|cost|betrag)|"
            r"betrag|montant|importe|valor|bedrag|kwota|belopp|importo|summe|monto|umsatz|(?:total_)?price|value|total"
        ),
        r".*_(?:amount|amt)|(?:amount|amt)_.*|.*_(?:price|betrag)",
    ),
    "reported_at": (
        rf"(?:fraud_|label_)?report(?:ed)?(?:_{_TIME})+|(?:label|chargeback|charge_back|cbk|dispute|fraud)_{_TIME}",
        rf"(?:fraud|chargeback|label|dispute)_(?:reported|report|confirmed|notified|received)_{_TIME}",
    ),
    "category": (
        r"mcc(?:_cd)?|merchant_category_code|(?:merchant_|merch_|shop_|tx_|transaction_)?category(?:_(?:code|id|name))?",
        r"mcc_(?:code|group|desc.*)|merchant_(?:type|mcc|group|sector)|product_(?:category|type|cd)|kategorie|sector",
    ),
    "channel": (
        r"channel|(?:payment|transaction|tx|sales|order)_channel|pos_entry_mode|entry_mode|kanal",
        r"use_chip|(?:card_)?(?:entry|present)(?:_mode|_indicator)?|transaction_type|tx_type|payment_type",
    ),
    "country": (rf"country(?:_code)?|land|{_PLACE}_country(?:_code)?",),
    "latitude": (rf"{_PLACE}_(?:lat|latitude)",),
    "longitude": (rf"{_PLACE}_(?:lon|long|lng|longitude)",),
}

NO_AMOUNT: Final = re.compile(
    r"(?:^|_)(?:ratio|mean|avg|average|median|std|deviation|max|min|limit|balance|count|share|diff|delta|prev|previous|"
    r"last|history|hist|past|log|score|rank|zscore|norm|scaled|\d+[hdw])(?:_|$)"
)
"""Names of figures about amounts of other transactions."""

NO_EVENT_TIME: Final = re.compile(
    r"(?:^|_)(?:dob|birth\w*|born|expir\w*|signup|sign_up|register\w*|registration|open\w*|since|first|last|label|"
    r"report\w*|due|valid|updated?|modified|bind|issued?|chargeback|dispute|settle\w*|zone|of_the_day|of_day|of_week|"
    r"hour_of|diff|delta|gap|lag)(?:_|$)"
)
"""Names of times that are not the transaction's own."""


@cache
def field_rank(field: str, name: str) -> int | None:
    """How plainly a name means a field: 0 the field's own name, then the order of NAMES; None if it does not."""
    words = spelled(name)
    known = FIELDS[field]
    if words in {spelled(field), *(spelled(synonym) for synonym in known.synonyms)}:
        return 0
    patterns = NAMES.get(field, ())
    return next((rank for rank, pattern in enumerate(patterns, start=1) if re.fullmatch(pattern, words)), None)
