"""YAML as a configuration needs it: a mapping of text keys, none of them written twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from agnes_mcp.errors import ConfigError


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that is written twice is an error, not a silent override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path, fix: str) -> dict[str, Any]:
    """The file's mapping; an empty file is an empty one. Raises `ConfigError` with the place, and `fix` as its hint."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path.name}: {_describe_yaml(error)}.", "Correct the YAML at that place.", path.name
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {type(error).__name__}.", fix, path.name) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name}: should be a mapping of keys, not a {type(content).__name__}.", fix, path.name)
    return content


def _describe_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not YAML"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
