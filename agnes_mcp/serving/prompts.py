"""What can be wrong with a call of a prompt, in words that name the argument."""

from __future__ import annotations

import logging
from typing import Any

from mcp.server.mcpserver.prompts import PromptManager
from mcp.server.mcpserver.prompts.base import PromptArgument
from pydantic import ValidationError

from agnes_mcp.errors import AgnesError
from agnes_mcp.serving.errors import check_prompt_arguments, describe_arguments, find_cause, internal_error

logger = logging.getLogger(__name__)


def check_prompt(prompts: PromptManager, name: str, arguments: dict[str, Any]) -> None:
    """Raises `invalid_argument` and `unknown_argument`, before the prompt is made."""
    known = sorted(prompt.name for prompt in prompts.list_prompts())
    if name not in known:
        hint = f"There are {', '.join(known)}."
        raise AgnesError("invalid_argument", f"There is no prompt {name[:80]!r}.", hint)
    check_prompt_arguments(name, {a.name: a.required for a in _declared(prompts, name)}, arguments)


def prompt_failure(prompts: PromptManager, name: str, error: ValueError) -> AgnesError:
    """What the SDK wrapped when it made the prompt."""
    cause = find_cause(error, AgnesError, ValidationError)
    if isinstance(cause, AgnesError):
        return cause
    if isinstance(cause, ValidationError):
        return describe_arguments(name, [a.name for a in _declared(prompts, name)], cause)
    logger.error("the prompt %s crashed", name, exc_info=error)
    return internal_error()


def _declared(prompts: PromptManager, name: str) -> list[PromptArgument]:
    found = prompts.get_prompt(name)
    return (found.arguments or []) if found else []
