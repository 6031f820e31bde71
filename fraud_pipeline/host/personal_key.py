"""The file of the key that makes pseudonyms of personal fields.

Belongs here: reading and creating the file. Must not be here: pseudonyms (`schema/pseudonyms.py`).
"""

import os
import secrets
import uuid
from pathlib import Path
from typing import Final

from fraud_pipeline.schema.pseudonyms import PersonalKey

_BYTES: Final = 32
_PRIVATE: Final = 0o600


class PersonalKeyError(ValueError):
    """The key is missing or unusable. The message says what to do and contains nothing of the key."""


def read_personal_key(path: Path) -> PersonalKey:
    """The key of a file of 64 hexadecimal digits. Raises PersonalKeyError."""
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        raise PersonalKeyError(f"{path}: the key of personal fields is not here: copy it from where it is") from None
    except (OSError, ValueError) as error:
        raise PersonalKeyError(
            f"{path}: the key of personal fields cannot be read ({type(error).__name__}): restore the file, which "
            f"holds {2 * _BYTES} hexadecimal digits"
        ) from None
    if len(secret) != _BYTES:
        raise PersonalKeyError(
            f"{path}: the key of personal fields has {len(secret)} bytes: restore the file, which holds {2 * _BYTES} "
            "hexadecimal digits"
        )
    return PersonalKey(secret)


def create_personal_key(path: Path) -> PersonalKey:
    """A fresh key in a file that only its owner can read; the key of a process that was first to make it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w") as file:
        file.write(secrets.token_hex(_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        # Unlike a rename, a link never replaces a key that another process made first.
        path.hardlink_to(unfinished)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    return read_personal_key(path)
