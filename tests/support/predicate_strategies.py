"""Hypothesis strategies for predicates: typed ones that both engines can evaluate, and hostile text."""

from __future__ import annotations

from datetime import date

from hypothesis import strategies as st

from agnes_mcp.models import Dialect
from agnes_mcp.untrusted import is_unseen
from support.predicates import accepted, rejected

Text = st.SearchStrategy[str]

_PRINTABLE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")).filter(
        lambda character: not is_unseen(character)  # such as a variation selector, which is refused
    ),
    max_size=8,
)


def _literal(dialect: Dialect) -> Text:
    if dialect == "duckdb":
        return _PRINTABLE.map(lambda value: "'" + value.replace("'", "''") + "'")
    escaped = _PRINTABLE.map(lambda value: value.replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"'))
    quote = st.sampled_from(["'", '"', "'''", '"""'])
    return st.builds(lambda value, q: f"{q}{value}{q}", escaped, quote)


def _numbers(dialect: Dialect) -> Text:
    atoms = st.one_of(
        st.sampled_from(["user_id", "amount", "web_sessions.user_id", "length(platform)", "abs(amount)"]),
        st.integers(-999, 999).map(str),
        st.decimals(0, 99, places=2).map(str),
    )
    extra = ["SAFE_DIVIDE({}, {})"] if dialect == "bigquery" else ["({} // {})", "(({}) % ({}))"]
    forms = ["({} + {})", "{} - {}", "({} * {})", "coalesce({}, {})", "greatest({}, {})", "-({} + {})", *extra]
    return st.recursive(atoms, lambda inner: _fill(forms, inner), max_leaves=4)


def _texts(dialect: Dialect) -> Text:
    columns = st.sampled_from(
        ["country_code", "platform", "device.os", "`group`" if dialect == "bigquery" else '"group"']
    )
    forms = [
        "lower({})",
        "concat({}, {})",
        "({} || {})",
        "coalesce({}, {})",
        "substr({}, 1, 2)",
        "replace({}, 'a', 'b')",
    ]
    return st.recursive(st.one_of(columns, _literal(dialect)), lambda inner: _fill(forms, inner), max_leaves=3)


def _dates(dialect: Dialect) -> Text:
    plain = st.one_of(st.just("event_date"), st.dates(date(1900, 1, 1), date(2100, 1, 1)).map(lambda d: f"DATE '{d}'"))
    if dialect == "bigquery":
        forms = ["DATE_ADD({}, INTERVAL 3 DAY)", "DATE_SUB({}, INTERVAL '1' MONTH)", "DATE_TRUNC({}, WEEK(MONDAY))"]
    else:
        forms = ["({} + INTERVAL 3 DAYS)::DATE", "date_trunc('month', {})", "last_day({})"]
    return st.recursive(plain, lambda inner: _fill(forms, inner), max_leaves=2)


def _fill(forms: list[str], inner: Text) -> Text:
    return st.builds(lambda form, left, right: form.format(left, right), st.sampled_from(forms), inner, inner)


def predicates(dialect: Dialect) -> Text:
    """Conditions that the dialect's engine evaluates without error on the rows of `support.predicates`."""
    number, text, day = _numbers(dialect), _texts(dialect), _dates(dialect)
    comparison = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
    pattern = st.text("aCZ%_", max_size=4)
    atoms = st.one_of(
        st.just("is_paid"),
        *(st.builds(lambda a, op, b: f"{a} {op} {b}", kind, comparison, kind) for kind in (number, text, day)),
        st.builds(lambda a, b, c: f"{a} IN ({b}, {c})", number, number, number),
        st.builds(lambda a, b, c: f"{a} NOT BETWEEN {b} AND {c}", day, day, day),
        st.builds(lambda a, p: f"{a} LIKE '{p}'", text, pattern),
        st.builds(lambda a, p: f"{a} NOT LIKE '{p}'", text, pattern),
        st.one_of(number, text, day).map(lambda a: f"{a} IS NOT NULL"),
        _of_lists(dialect, number, text, comparison),
    )
    forms = [
        "{} AND {}", "{} OR {}", "NOT ({} OR {})", "({} AND {})", "({}) = ({})", "NOT ({}) AND {}",
        "CASE WHEN {} THEN {} ELSE FALSE END", "coalesce(({}), {})", "if({}, {}, NULL)", "({}) IS NOT TRUE OR {}",
    ]  # fmt: skip
    return st.recursive(atoms, lambda inner: _fill(forms, inner), max_leaves=5)


def _of_lists(dialect: Dialect, number: Text, text: Text, comparison: Text) -> Text:
    """EXISTS over a list of texts, and over one of records, whose conditions name columns beside the list too."""
    tag, item = ("AS t", "AS i") if dialect == "bigquery" else ("AS l(t)", "AS l(i)")
    tags = st.builds(lambda op, a: f"EXISTS(SELECT 1 FROM UNNEST(tags) {tag} WHERE t {op} {a})", comparison, text)
    form = "{}EXISTS (SELECT * FROM UNNEST(items) {} WHERE i.sku {} {} OR i.price {} {})"
    maybe = st.sampled_from(["", "NOT "])
    items = st.builds(lambda op, a, b, no: form.format(no, item, op, a, op, b), comparison, text, number, maybe)
    return st.one_of(tags, items)


PIECES = """
' " ` ''' \"\"\" r' b' e' \\ \\' -- # /* */ /*+ ; , . * ( ) [ ] { } < > = != == :: := -> ->> => |> || | & ^ ~ @
@@ $1 ? :x % // ** 1 0 .5 1e400 0x1F 1_000 NULL TRUE AND OR NOT XOR IN BETWEEN LIKE ILIKE IS DISTINCT FROM CASE WHEN
THEN ELSE END CAST SAFE_CAST TRY_CAST EXTRACT INTERVAL DAY UNNEST SELECT UNION EXISTS VALUES TABLE WITH LIMIT ORDER BY
GROUP HAVING QUALIFY WINDOW OVER ARRAY STRUCT ROW MAP DATE( TIMESTAMP( STRUCT( ARRAY[ IF( COUNT( LOWER( COALESCE(
OFFSET( SAFE. p.d.f( web_sessions other device tags amount country_code is_paid _PARTITIONTIME DROP ⟦0⟧ ⟦a0⟧ ⟦2028⟧
⟦202e⟧ ⟦200b⟧ ⟦a⟧ é FROM AS WHERE UNNEST(items) UNNEST(tags) EXISTS(SELECT
""".split()  # noqa: SIM905


def hostile(dialect: Dialect) -> Text:
    """Text that is nearly SQL: pieces of it in any order, and lines of the corpora cut and joined."""
    from support.predicates import unescape

    piece = st.sampled_from([unescape(piece) for piece in PIECES])
    lines = st.sampled_from(accepted(dialect) + [text for _, text in rejected(dialect)])
    cut = st.builds(lambda line, at: line[: at % (len(line) + 1)], lines, st.integers(0, 200))
    rest = st.builds(lambda line, at: line[at % (len(line) + 1) :], lines, st.integers(0, 200))
    part = st.one_of(piece, cut, rest, lines, st.text(max_size=5))
    return st.builds(
        lambda parts, glue: glue.join(parts), st.lists(part, max_size=12), st.sampled_from(["", " ", "\n"])
    )
