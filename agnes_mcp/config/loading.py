"""Which `instance.yaml` is served, and the one line that says why it cannot be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from agnes_mcp.config.complaints import complaint_of
from agnes_mcp.config.settings import AccessSettings, Settings, TableSettings
from agnes_mcp.config.types import expanded
from agnes_mcp.errors import ConfigError

if TYPE_CHECKING:
    import yaml

#: Variables beside those of the settings; any other that begins with AGNES_ is taken for a misspelt setting.
OTHER_VARIABLES = (
    "AGNES_CONFIG",
    "AGNES_BIGQUERY_EXTENSION",
    "AGNES_REMOTE_ATTACH_EXTENSIONS",
    "AGNES_REMOTE_ATTACH_TOKEN_ENVS",
    "AGNES_TOKEN",
)
TEST_VARIABLES = "AGNES_TEST_"
FIX = "Correct the file or the environment, then start again; docs/reference/configuration.md lists every key."


def find_config(explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The instance file to serve; None: the demo. One that was named and is not there is an error."""
    named = environ.get("AGNES_CONFIG") if explicit is None else explicit
    if named or explicit is not None:
        source = "AGNES_CONFIG" if explicit is None else "--config"
        path = Path(expanded(named or ""))
        if not os.path.isfile(path):
            raise ConfigError(f"{source}: {_why_no_file(path, named)}.", "Name an instance.yaml that exists.", source)
        return path.absolute()
    places = (Path("instance.yaml"), Path(os.path.expanduser("~/.agnes/instance.yaml")))
    return next((place.absolute() for place in places if os.path.isfile(place)), None)


def _why_no_file(path: Path, named: str | None) -> str:
    if not named:
        return "there is no file ''"
    try:
        os.stat(path)
    except PermissionError:
        return f"{named!r} is in a folder that this user may not enter"
    except (OSError, ValueError):
        return f"there is no file {named!r}"
    return f"{named!r} is a folder, or no file of a disk"


def load_settings(path: Path | None) -> Settings:
    """Settings from that file (None: from the environment alone) with the environment on top.

    Raises `ConfigError`, one line that names the key.
    """
    _refuse_unknown_variables(os.environ)
    content = read_mapping(path) if path else {}
    if path:
        content = _anchor_paths(content, path.parent)
    try:
        settings = Settings(**content)
    except ValidationError as error:
        raise _as_error(error) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}.", FIX, "environment") from None
    return settings


def load_grants(path: Path) -> tuple[AccessSettings, list[TableSettings] | None]:
    """The `access` section of that file, with the environment on top, and the tables that it has at the same moment;
    None where those cannot be served, as nothing else in the file needs to be.

    Raises `ConfigError` where the section cannot be read.
    """
    content = _anchor_paths(read_mapping(path), path.parent)
    access = _section_of(content, "access").access
    try:
        return access, _section_of(content, "tables", "data_source").tables
    except ConfigError:
        return access, None


def _section_of(content: Mapping[str, Any], *keys: str) -> Settings:
    try:
        return Settings(**{key: value for key, value in content.items() if key in keys})
    except ValidationError as error:
        raise _as_error(error) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}.", FIX, "environment") from None


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    """A setting that is spelt wrongly in the environment would otherwise be a limit that nobody keeps."""
    known = {f"AGNES_{key.upper()}" for key in Settings.model_fields}
    for name in sorted(environ):
        spelt = name.upper()
        if not spelt.startswith("AGNES_") or spelt.startswith(TEST_VARIABLES) or spelt in OTHER_VARIABLES:
            continue
        if spelt.split("__", 1)[0] not in known:
            problem = f"{name}: is not a setting; the parts of a key are joined by two underscores"
            raise ConfigError(f"{problem}, as in AGNES_API__SCAN__MAX_LIMIT.", FIX, name)


def read_mapping(path: Path) -> dict[str, Any]:
    """The file's mapping; an empty file is an empty one. Raises `ConfigError` with the place."""
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_strict_loader())  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path.name}: {_describe_yaml(error)}.", "Correct the YAML at that place.", path.name
        ) from None
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}.", FIX, path.name) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name} cannot be read: it is not text in UTF-8.", FIX, path.name) from None
    except RecursionError:
        raise ConfigError(f"{path.name} is nested deeper than a configuration is.", FIX, path.name) from None
    except (ValueError, LookupError, AttributeError):  # what the library lets through of values that are none
        problem = f"{path.name} has a value that is not what it looks like, as the date 2026-13-01 is none"
        raise ConfigError(f"{problem}.", "Put texts that look like a date or a number in quotes.", path.name) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name}: should be a mapping of keys, not a {type(content).__name__}.", FIX, path.name)
    return content


def _strict_loader() -> type[yaml.SafeLoader]:
    import yaml  # without a file there is nothing to load it for

    class StrictLoader(yaml.SafeLoader):
        """YAML in which a key that is written twice is an error, not a silent override."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str):
                    problem = f"the key {key!r} is not text"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                if key in seen:
                    problem = f"the key {key!r} is written twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                seen.add(key)
            return super().construct_mapping(node, deep)

    return StrictLoader


def _describe_yaml(error: yaml.YAMLError) -> str:
    import yaml

    if not isinstance(error, yaml.MarkedYAMLError):
        return "not YAML"
    problem, mark = error.problem or "not YAML", error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _anchor_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in the file are relative to the file."""
    anchored = dict(content)
    if isinstance(content.get("data_dir"), str):
        anchored["data_dir"] = _anchor(content["data_dir"], folder)
    sources = content.get("data_source")
    sources = sources if isinstance(sources, dict) else {}
    agnes = sources.get("agnes")
    if isinstance(agnes, dict) and isinstance(agnes.get("data_dir"), str):
        anchored["data_source"] = {**sources, "agnes": {**agnes, "data_dir": _anchor(agnes["data_dir"], folder)}}
    if isinstance(content.get("tables"), list):
        anchored["tables"] = [
            {**table, "path": _anchor(table["path"], folder)}
            if isinstance(table, dict) and isinstance(table.get("path"), str) and table["path"]
            else table
            for table in content["tables"]
        ]
    return anchored


def _anchor(path: str, folder: Path) -> str:
    if "\0" in path:
        shown = path.replace("\0", "\\0")[:80]
        raise ConfigError(f"instance.yaml: the path '{shown}' holds the character NUL.", FIX, "instance.yaml")
    return os.path.abspath(folder / expanded(path))


def _as_error(error: ValidationError) -> ConfigError:
    text, key = complaint_of(error)
    return ConfigError(text, FIX, key)
