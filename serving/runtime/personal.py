"""The personal fields of a serving process, and the check that a model was trained with this process's key.

Belongs here: which declaration decides. Must not be here: the replacement of values (`schema/personal_fields.py`).

A process reads the key and never makes one: a key of its own would give the same value another pseudonym.
"""

from collections.abc import Callable
from pathlib import Path

from fraud_pipeline.features.own_inputs import NO_OWN_INPUTS, OwnInputs
from fraud_pipeline.host.personal_key import PersonalKeyError, read_personal_key
from fraud_pipeline.modeling.model_directory import FraudModel, IncompatibleModelError
from fraud_pipeline.schema.personal_fields import PersonalFields
from fraud_pipeline.schema.pseudonyms import PersonalKey
from fraud_pipeline.settings import Settings
from serving.runtime.champion import LoadedModel


class ServedPersonalFields:
    """What is personal now: the champion decides for the fields that it declares, the settings for all others.

    While the only model is one that `verify` refused, its personal fields are stored as unreadable, because a raw value
    must not be stored. Raises PersonalKeyError when the settings declare a personal field and there is no key.
    """

    def __init__(self, settings: Settings, *, champion: Callable[[], LoadedModel | None]) -> None:
        self._file = settings.personal_key_file
        declared = settings.declaration.own_fields if settings.declaration else ()
        self._declared = tuple(own for own in declared if own.personal)
        self._key = read_personal_key(self._file) if self._declared else None
        self._champion = champion
        self._refused = NO_OWN_INPUTS
        self._of: LoadedModel | None = None
        self._fields = self._without_champion()

    def __call__(self) -> PersonalFields:
        """The personal fields of this moment."""
        champion = self._champion()
        if champion is not self._of:
            own = champion.model.feature_config.own_inputs if champion else None
            self._fields = self._beside(own) if own else self._without_champion()
            self._of = champion
        return self._fields

    def verify(self, model: FraudModel) -> None:
        """Raise IncompatibleModelError for a model whose pseudonyms are of another key than this process's."""
        own = model.feature_config.own_inputs
        if not own.personal_key:
            return
        try:
            self._key = key_of_model(own, self._file)
        except IncompatibleModelError:
            self._refused = own
            if self._of is None:
                self._fields = self._without_champion()
            raise

    def _beside(self, own: OwnInputs) -> PersonalFields:
        names = {each.name for each in own.fields}
        others = (each for each in self._declared if each.name not in names)
        return PersonalFields.among((*own.fields, *others), key=self._key)

    def _without_champion(self) -> PersonalFields:
        if self._refused is NO_OWN_INPUTS:
            return PersonalFields.among(self._declared, key=self._key)
        return PersonalFields.among((*self._refused.fields, *self._declared), key=None)


def key_of_model(own: OwnInputs, path: Path) -> PersonalKey:
    """The key of a model's personal fields, from this file. Raises IncompatibleModelError for another, or none."""
    try:
        key = read_personal_key(path)
    except PersonalKeyError as error:
        problem = str(error)
    else:
        if key.id == own.personal_key:
            return key
        problem = (
            f"{path}: this is key {key.id}: copy the key of the process that trained the model to this path, or train "
            "with this key"
        )
    raise IncompatibleModelError(
        f"the personal fields of the model need key {own.personal_key}, and {problem}; then restart this process"
    )
