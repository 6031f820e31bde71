"""The home directory of the demo: its own settings, so that it never touches other data.

Belongs here: the settings file of that directory, the environment of its processes. Must not be here: processes.
"""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

from fraud_pipeline.settings import HOME_VARIABLE, SETTINGS_FILE

FIRST_LINE: Final = "# Written by `fraud-detect demo` at each start; changes are lost."
_FOREIGN: Final = ("FRAUD_", "DAGSTER_", "MLFLOW_", "BENTOML_")


class DemoHomeError(ValueError):
    """The directory holds another deployment; the message names the remedy."""


def prepare_demo_home(home: Path, *, settings: Mapping[str, str], environment: MutableMapping[str, str]) -> None:
    """Write the settings of the demo, and let this process and its children see them and no others.

    Raises DemoHomeError for a directory that is not the demo's.
    """
    file = home / SETTINGS_FILE
    if file.exists():
        if file.read_text(encoding="utf-8").splitlines()[:1] != [FIRST_LINE]:
            raise DemoHomeError(f"{home} is the home of another deployment: name another directory with --home")
    elif home.exists() and any(home.iterdir()):
        raise DemoHomeError(f"{home} holds other files: name another directory with --home")
    home.mkdir(parents=True, exist_ok=True)
    values = {"FRAUD_SYNTHETIC": "true", **settings}
    text = "\n".join([FIRST_LINE, *(f"{name}={value}" for name, value in values.items())])
    unfinished = file.with_suffix(".new")
    unfinished.write_text(f"{text}\n", encoding="utf-8")
    unfinished.replace(file)
    for name in [name for name in environment if name.startswith(_FOREIGN)]:
        del environment[name]
    environment[HOME_VARIABLE] = str(home.resolve())
