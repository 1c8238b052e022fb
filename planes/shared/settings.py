"""The base of every deployable's settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.sources import PydanticBaseSettingsSource


class _EnvironmentWithFiles(EnvSettingsSource):
    """The environment, where `NAME_FILE` names a file that holds the value of `NAME`."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables = dict(super()._load_env_vars())
        for name, field in self.settings_cls.model_fields.items():
            for _, variable, _ in self._extract_field_info(field, name):
                path = variables.get(f"{variable}_file")
                if path and variables.get(variable) is None:
                    variables[variable] = Path(path).read_text("utf-8").strip()
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
            return cls()
        except ValidationError as error:
            flaws = [f"{cls._variable(flaw['loc'])}{flaw['msg']}" for flaw in error.errors()]
            raise SystemExit("These settings are wrong:\n" + "\n".join(flaws)) from None

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
        return init_settings, _EnvironmentWithFiles(settings_cls)


def _absolute(value: str | Path) -> Path:
    return Path(value).expanduser().absolute()


EmbeddingPrecision = Literal["auto", "f32", "bf16", "int8"]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
