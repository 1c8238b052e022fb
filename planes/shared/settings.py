"""The base of every deployable's settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.sources import PydanticBaseSettingsSource


class SettingsWrong(ValueError):
    """Values are missing or wrong; the message names each variable, and no value."""


class _EnvironmentWithFiles(EnvSettingsSource):
    """An environment, where `NAME_FILE` names a file that holds the value of `NAME`."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        self._environment = environment
        super().__init__(settings_cls)

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        try:
            return super().prepare_field_value(field_name, field, value, value_is_complex)
        except ValueError:  # no JSON: the field's own check says what it must be
            return value

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables: dict[str, str | None] = {
            name.lower(): value for name, value in self._environment.items()
        }
        for name, field in self.settings_cls.model_fields.items():
            for _, variable, _ in self._extract_field_info(field, name):
                path = variables.get(f"{variable}_file")
                if path and variables.get(variable) is None:
                    variables[variable] = _content(f"{variable}_file".upper(), path)
        return variables


class SharedSettings(BaseSettings):
    """Settings from arguments, then the environment, then the files that it names.

    Raises:
        pydantic.ValidationError: A required value is missing or malformed; it names the variable.
    """

    model_config = SettingsConfigDict(
        extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    @classmethod
    def read(cls) -> Self:
        """Read the settings of this process.

        Raises:
            SystemExit: A value is missing or wrong; the message names each variable.
        """
        try:
            return cls.of(os.environ)
        except SettingsWrong as error:
            raise SystemExit(f"These settings are wrong:\n{error}") from None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings of a process from its environment, before it has begun.

        Raises:
            SettingsWrong: A value is missing or wrong; one line each.
        """
        settings = cls.__new__(cls)
        try:
            BaseModel.__init__(settings, **_EnvironmentWithFiles(cls, environment)())
        except ValidationError as error:
            flaws = [f"{cls._variable(flaw['loc'])}{flaw['msg']}" for flaw in error.errors()]
            raise SettingsWrong("\n".join(flaws)) from None
        return settings

    @classmethod
    def _variable(cls, place: tuple[int | str, ...]) -> str:
        """Return the environment variable of a field, with a colon; "" for no one field."""
        if not place:
            return ""
        name = str(place[0])
        prefix = cls.model_config.get("env_prefix", "")
        return f"{(prefix + name).upper() if name in cls.model_fields else name}: "

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the strongest first."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _EnvironmentWithFiles(settings_cls, os.environ)


def _content(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsWrong(f"{variable}: {path} cannot be read: {error}") from None


def _absolute(value: str | Path) -> Path:
    return Path(value).expanduser().absolute()


EmbeddingPrecision = Literal["auto", "f32", "bf16", "int8"]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
"""Names of `logging`."""
