"""Ids as exports damage them, and similar texts, for tests of every entrance."""

from typing import Final

from hypothesis import strategies as st

_WORDS: Final = st.sampled_from(
    [
        *("NULL", "null", "(null)", "<NA>", "#N/A", "nil", "None", r"\N", "-", "?", "NaN", "NA", "Namibia", "nullable"),
        *("4.51E+15", "4,51e15", "1E+15", "4E15", "12e45678", "4.51*10^15", "123.0", "123,00", "123.000", "12.5"),
        *("45123400000079190.0", "4512340000007919.0", "Caf\u00c3\u00a9", "Cafe\u0301", "Caf\ufffd", "\u0661\u0662"),
        *("'t Hoekje", "192.168.1.1", "1,234,567", "\ufeffc", "c\u200b1", "c\u00a01", "0123", "C-1", "c\n", "\t"),
    ]
)
_AROUND: Final = st.sampled_from(["", " ", "\u00a0", "\t", "'", '"', '="', "\u200b", "  "])
SPELLINGS: Final = st.builds(
    lambda before, text, after: before + text + after,
    _AROUND,
    _WORDS | st.text("0123456789.,eE+-", min_size=1, max_size=20),
    _AROUND,
)
"""Texts that may be an id, hold nothing, or are damaged."""
