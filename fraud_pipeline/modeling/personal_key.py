"""The key of personal fields, for whatever writes tables and trains models.

Belongs here: when the key may be made. Must not be here: its file (`host/personal_key.py`), serving, which only reads.
"""

from collections.abc import Iterable
from pathlib import Path

from fraud_pipeline.host.personal_key import PersonalKeyError, create_personal_key, read_personal_key
from fraud_pipeline.modeling.model_directory import MANIFEST_FILE, read_manifest
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline.schema.pseudonyms import PersonalKey


def personal_key(path: Path, *, ours: bool, champion: Path) -> PersonalKey:
    """The key of a file; `ours`, which no setting names, is made at first use.

    Raises PersonalKeyError for an unusable file, and where a fresh key would replace the one of the champion.
    """
    if path.exists() or not ours:
        return read_personal_key(path)
    if needed := _key_of(champion):
        raise PersonalKeyError(
            f"{path}: the key of personal fields is gone, and the champion was trained with key {needed}: restore the "
            f"file from a backup; to begin with another key, remove {champion} first"
        )
    return create_personal_key(path)


def key_id(path: Path, own_fields: Iterable[OwnField]) -> str:
    """The id of the key of personal fields; empty where no field is personal. Raises PersonalKeyError."""
    return read_personal_key(path).id if any(own.personal for own in own_fields) else ""


def _key_of(champion: Path) -> str:
    if not (champion / MANIFEST_FILE).exists():
        return ""
    own = read_manifest(champion).get("feature_config", {}).get("own_inputs") or {}
    return str(own.get("personal_key", ""))
