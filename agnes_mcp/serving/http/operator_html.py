"""The operator's page as HTML. Every text of others goes through `escape`; there is no script in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from agnes_mcp import __version__
from agnes_mcp.models import Principal, QuotaLeft
from agnes_mcp.operations.overview import Overview
from agnes_mcp.untrusted import revealed

#: What helps a part that does not work.
CURES = {
    "bigquery": "Run agnes-mcp doctor: it names the permission or the network that is missing.",
    "bigquery_storage_read": "Grant BigQuery Read Session User; until then rows come through REST, slower.",
    "audit": "Look at the disk of data_dir: lines could not be written.",
    "threads": "A thread does not come back from its work: restart when nothing runs.",
    "users": "Correct instance.yaml: the users of before the mistake are still served.",
    "oidc_keys": "Look at access.oidc.jwks_uri: the provider's keys could not be read.",
}
#: Columns whose cells are numbers.
_NUMBERS = ("billed", "ms")
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem 1.2rem 3rem; }
header { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; flex-wrap: wrap; }
h1 { font-size: 1.3rem; margin: .3rem 0; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } th.number { text-align: right; }
meter { width: 8rem; } code { font-size: .9em; } .bad { color: #b3261e; font-weight: 600; }
@media (prefers-color-scheme: dark) { .bad { color: #ffb4ab; } }
button, input { font: inherit; padding: .3rem .8rem; } form { display: inline; }
.sign-in { max-width: 26rem; margin: 12vh auto; }
.sign-in input { width: 100%; box-sizing: border-box; margin: .3rem 0 .8rem; } .note { opacity: .75; }
"""


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n<meta name=robots content=noindex>\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def sign_in_page(problem: str = "") -> str:
    said = f"<p class=bad role=alert>{escape(problem)}</p>" if problem else ""
    return _page(
        "Agnes: sign in",
        f"<main class=sign-in><h1>Agnes</h1>{said}<form method=post action=/sign-in>"
        "<label for=token>Your token</label>"
        "<input id=token name=token type=password autocomplete=current-password required autofocus>"
        "<button>Sign in</button></form>"
        "<p class=note>Who keeps this server makes a token with <code>agnes-mcp token new</code>.</p></main>",
    )


def overview_page(
    principal: Principal, overview: Overview, works: Mapping[str, bool], form_token: str, *, signs_out: bool
) -> str:
    whose = "everybody" if overview.whole else "yourself"
    out = _button("/sign-out", "Sign out", form_token) if signs_out else ""
    parts = [
        f"<header><h1>Agnes {escape(__version__)}</h1><div>{_shown(principal.name)}, who sees {whose} "
        f"<a href=/>Refresh</a> {out}</div></header><main>",
        _health(works),
        "<h2>Today's budgets</h2>",
        _table(
            ("whose", "used today", "of", "", "reserved", "running", "resets"),
            [*map(_budget, overview.budgets.items()), *_shared(overview)],
        ),
        _warnings(overview),
        "<h2>Running now</h2>",
        _running(principal, overview, form_token),
        "<h2>Recent calls</h2>",
        _table(("time", "user", "tool", "table", "ended", "billed", "ms", "job"), map(_call, overview.recent)),
        "<h2>Snapshots and disk</h2>",
        _disk(overview),
        "</main>",
    ]
    return _page("Agnes", "\n".join(parts))


def _health(works: Mapping[str, bool]) -> str:
    broken = [name for name, fine in works.items() if not fine]
    if not broken:
        return "<p>Everything works.</p>"
    items = "".join(
        f"<li><span class=bad>{escape(n)}</span>: {escape(CURES.get(n, 'See the log.'))}</li>" for n in broken
    )
    return f"<h2>Degraded</h2><ul>{items}</ul>"


def _table(heads: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(f"<th scope=col{' class=number' * (text in _NUMBERS)}>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(cells) + "</tr>" for cells in rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(text: object, *, number: bool = False) -> str:
    shown = "" if text is None else _shown(text)
    return f"<td class=number>{shown}</td>" if number else f"<td>{shown}</td>"


def _shown(text: object) -> str:
    """Somebody else's text as HTML: what nobody sees in it is shown as its number, and cannot turn the rest around."""
    seen, _ = revealed(str(text))
    return escape(str(seen))


def _budget(entry: tuple[str, QuotaLeft | None]) -> list[str]:
    name, left = entry
    if left is None:
        return [_cell(name), "<td colspan=6 class=bad>The books cannot be asked.</td>"]
    used, limit = left.daily_bytes_used, left.daily_bytes_limit
    return [
        _cell(name), _cell(_size(used)), _cell(_size(limit)), _meter(used, limit),
        _cell(_size(left.daily_bytes_reserved)),
        _cell(f"{left.running_scans} of {left.max_concurrent_scans}"), _cell(f"{left.resets_at:%H:%M} UTC"),
    ]  # fmt: skip


def _shared(overview: Overview) -> list[list[str]]:
    """The budgets of groups and of the project, each once; what is reserved of them is counted as used."""
    known = [left for left in overview.budgets.values() if left is not None]
    shared = {(one.kind, one.name): (one, left) for left in known for one in left.shared}
    rows = []
    for (kind, name), (one, left) in sorted(shared.items(), key=lambda entry: entry[0]):
        used = one.bytes_limit - one.bytes_left
        rows.append([
            _cell(f"{kind} {name}"), _cell(_size(used)), _cell(_size(one.bytes_limit)), _meter(used, one.bytes_limit),
            _cell(""), _cell(""), _cell(f"{left.resets_at:%H:%M} UTC"),
        ])  # fmt: skip
    return rows


def _meter(used: int, limit: int) -> str:
    return f"<td><meter min=0 max={max(limit, 1)} high={max(limit, 1) * 0.8:.0f} value={used}></meter></td>"


def _warnings(overview: Overview) -> str:
    said = [(name, left.warning) for name, left in overview.budgets.items() if left is not None and left.warning]
    return "".join(f"<p class=bad>{escape(name)}: {escape(warning)}</p>" for name, warning in said)


def _running(principal: Principal, overview: Overview, form_token: str) -> str:
    if not overview.running:
        return "<p>Nothing.</p>"
    rows = []
    for call in overview.running:
        end = _button("/cancel", "Cancel", form_token, call.request_id) if call.principal == principal else ""
        named = [_cell(call.principal.name), _cell(call.tool), _cell(call.line.table_id)]
        rows.append([*named, _cell(f"{call.elapsed_s:.0f} s"), f"<td>{end}</td>"])
    return _table(("user", "tool", "table", "since", ""), rows)


def _button(action: str, label: str, form_token: str, request_id: str = "") -> str:
    named = f'<input type=hidden name=request_id value="{escape(request_id)}">' if request_id else ""
    return (
        f'<form method=post action={action}><input type=hidden name=form_token value="{escape(form_token)}">'
        f"{named}<button>{escape(label)}</button></form>"
    )


def _call(line: Mapping[str, Any]) -> list[str]:
    ended = line.get("error_kind") or line.get("status")
    fine = line.get("status") in ("ok", "truncated")
    return [
        _cell(str(line.get("time", ""))[:19].replace("T", " ")), _cell(line.get("principal")), _cell(line.get("tool")),
        _cell(line.get("table_id")), _cell(ended) if fine else f"<td class=bad>{_shown(ended)}</td>",
        _cell("" if not line.get("bytes_billed") else _size(int(line["bytes_billed"])), number=True),
        _cell(line.get("latency_ms"), number=True), f"<td><code>{_shown(line.get('job_id') or '')}</code></td>",
    ]  # fmt: skip


def _disk(overview: Overview) -> str:
    disk = overview.disk
    if disk is None:
        return "<p>The disk cannot be read.</p>"
    kept = f"{_count(disk.snapshot_count, 'snapshot')} and {_count(disk.chart_count, 'chart')}"
    audit = "" if overview.audit_bytes is None else f" The audit takes {_size(overview.audit_bytes)}."
    rules = " ".join(overview.retention) or "Nothing is removed but by its owner, and what expires."
    return (
        f"<p>{kept}, together {_size(disk.used_bytes)}; {_size(disk.free_bytes)} free.{audit}</p>"
        f"<p class=note>{escape(rules)}</p>"
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _size(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"
