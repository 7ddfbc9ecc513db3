"""What all settings share: how a class is read from variables and files, and the sentence for a wrong one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UndecodableSetting


class SettingsError(Exception):
    """A setting is missing or wrong. The message is one sentence that names the variable to correct."""


def settings_from(env_prefix: str) -> SettingsConfigDict:
    """Return the configuration of a settings class that is read from variables starting with env_prefix."""
    return SettingsConfigDict(env_prefix=env_prefix)


class Settings(BaseSettings):
    """Base of all settings classes; a subclass sets `model_config = settings_from("GAPLESS_<NAME>_")`."""

    # Written out here for the type checker: subclasses inherit everything but the prefix.
    model_config = SettingsConfigDict(
        env_prefix="GAPLESS_", frozen=True, populate_by_name=True, extra="forbid", env_ignore_empty=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by priority: arguments, variables, files that `<variable>_FILE` names."""
        return init_settings, env_settings, _SecretFiles(settings_cls)


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads secrets from the files that `<variable>_FILE` names. Raises SettingsError."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        assert issubclass(self.settings_cls, Settings), "a source of our own settings"
        variable = variable_name(self.settings_cls, field_name)
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: keep one of them.")
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"{variable}_FILE names {path}, which cannot be read ({reason}).") from None
        if not secret:
            raise SettingsError(f"{variable}_FILE names {path}, which is empty.")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            if _is_secret(field.annotation):
                value, _, _ = self.get_field_value(field, name)
                if value is not None:
                    found[name] = value
        return found


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _split_commas(value: object) -> object:
    """Split `a, b` into `("a", "b")`. A value that is not a string is left to the validation of its type."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
"""A tuple of strings, written as `a,b,c` in a variable."""

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def revealed(secret: SecretStr | None) -> str | None:
    """Return a secret as a plain string, for the client that needs it."""
    return None if secret is None else secret.get_secret_value()


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(cls: type[SettingsT]) -> SettingsT:
    """Read cls from the environment.

    :raises SettingsError: one sentence that names the variable.
    """
    try:
        return cls()
    except ValidationError as error:
        raise SettingsError(_sentence(cls, error)) from None
    except UndecodableSetting as error:
        raise SettingsError(f"A {cls.__name__} variable cannot be decoded: {error}.") from None


def _sentence(cls: type[Settings], error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # a check of several fields: its message names the variables itself
        return f"{message[0].upper()}{message[1:]}."
    name, *inner = (str(part) for part in first["loc"])
    owner = next((c for c in _settings_classes(cls) if c.__name__ == error.title), cls)
    while inner and (nested := _nested_class(owner, name)) is not None:
        owner, name, inner = nested, inner[0], inner[1:]
    variable = variable_name(owner, name)
    if first["type"] == "missing":
        return f"{variable} is not set, and there is no default."
    return f"{variable} is wrong: {_as_clause(message)}."


def _as_clause(message: str) -> str:
    """Lower-case the first letter, unless it starts an abbreviation (`URL scheme should be ...`)."""
    return message if message[1:2].isupper() else f"{message[:1].lower()}{message[1:]}"


def variable_name(cls: type[Settings], field_name: str) -> str:
    """Return the environment variable that a field of cls is read from."""
    field = cls.model_fields.get(field_name)
    if field is None:  # if a field has an alias, an error's location is the alias itself
        return field_name.upper()
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{cls.model_config.get('env_prefix', '')}{field_name}".upper()


def variables_of(cls: type[Settings]) -> frozenset[str]:
    """Return every environment variable that cls and its nested settings are read from."""
    found: set[str] = set()
    for owner in _settings_classes(cls):
        for name, field in owner.model_fields.items():
            if _nested_class(owner, name) is None:
                found.add(variable_name(owner, name))
            if _is_secret(field.annotation):
                found.add(f"{variable_name(owner, name)}_FILE")
    return frozenset(found)


def _nested_class(cls: type[Settings], field_name: str) -> type[Settings] | None:
    field = cls.model_fields.get(field_name)
    candidates: tuple[Any, ...] = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), None)


def _settings_classes(cls: type[Settings]) -> Iterator[type[Settings]]:
    yield cls
    for name in cls.model_fields:
        nested = _nested_class(cls, name)
        if nested is not None:
            yield from _settings_classes(nested)
