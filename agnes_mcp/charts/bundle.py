"""Vega for a page that loads nothing: the renderer's own copy of it, as one script.

`python -I -m agnes_mcp.charts.bundle` writes it to standard output: making it takes seconds and holds the interpreter.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache

#: The same as the renderer's, so that a chart looks alike in a picture and in a page.
VEGA_LITE = "6.4"
SNIPPET = "window.vegaEmbed = vegaEmbed;"
_TIMEOUT_S = 60


@cache
def javascript() -> str:
    """`window.vegaEmbed`, fit to stand between script tags. Blocking. Raises `OSError` where it fails."""
    command = [sys.executable, "-I", "-B", "-m", "agnes_mcp.charts.bundle"]
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)  # noqa: S603 - our own
    if done.returncode != 0:
        raise OSError("the renderer's script could not be made")
    return done.stdout.decode("utf-8").replace("</script", "<\\/script").replace("<!--", "<\\!--")


if __name__ == "__main__":
    import vl_convert

    sys.stdout.buffer.write(vl_convert.javascript_bundle(SNIPPET, VEGA_LITE).encode("utf-8"))
