"""Pseudonyms: a keyed hash in place of a personal value.

Belongs here: the key, and the pseudonym of one text. Must not be here: which fields are personal
(`personal_fields.py`), the file of the key (`host/personal_key.py`).
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

PSEUDONYM_PATTERN: Final = r"p_[a-z2-7]{26}"
UNREADABLE: Final = "p_unreadable"
"""Stands for a personal value that its field cannot hold, so that nothing of it is stored."""
_PSEUDONYM: Final = re.compile(PSEUDONYM_PATTERN)
_LETTERS: Final = 26  # of five bits each


@dataclass(frozen=True, slots=True)
class PersonalKey:
    """The secret key of all pseudonyms of a deployment."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """A hash that names the key and reveals nothing of it."""
        return hashlib.sha256(b"fraud-detect personal key\0" + self.secret).hexdigest()[:16]

    def pseudonym(self, text: str) -> str:
        """The first 130 bits of HMAC-SHA-256 of a text, in base32."""
        digest = hmac.digest(self.secret, text.encode(errors="surrogatepass"), "sha256")
        return f"p_{base64.b32encode(digest).decode().lower()[:_LETTERS]}"


def is_pseudonym(value: object) -> bool:
    """Whether a value has the form of a pseudonym. It is taken as it is, so that values may pass several doors."""
    return isinstance(value, str) and _PSEUDONYM.fullmatch(value) is not None
