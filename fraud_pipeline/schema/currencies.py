"""The currencies of ISO 4217 and their minor units.

Belongs here: codes and digits. Must not be here: rates and conversion (`money.py`).

Source: ISO 4217, tables A.1 (currencies and funds in use) and A.3 (withdrawn ones, here those since 2015, because files
go back that far). A test compares the codes in use with the CLDR of Babel. CLDR's digits are those of daily use and
differ, so the digits are ISO's.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_IN_USE: Final = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY "
    "COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR "
    "ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK "
    "MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF "
    "SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU "
    "UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG"
)
_FUNDS: Final = "BOV CHE CHW CLF COU MXV USN UYI UYW"
_WITHDRAWN: Final = "ANG BGN BYR CUC HRK LTL MRO SLL STD VEF ZWL"
_DIGITS: Final[Mapping[int, str]] = {
    0: "BIF BYR CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

MINOR_DIGITS: Final[Mapping[str, int]] = MappingProxyType(
    dict.fromkeys(f"{_IN_USE} {_FUNDS} {_WITHDRAWN}".split(), 2)
    | {code: digits for digits, codes in _DIGITS.items() for code in codes.split()}
)
"""Decimals of each currency: 2 for EUR, 0 for JPY, 3 for KWD."""
