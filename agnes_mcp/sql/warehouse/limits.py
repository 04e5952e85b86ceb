"""How large a statement may be. Every cap holds before any parser of SQL sees the text.

Measured on sqlglot 30: brackets, calls and CASE inside one another need about twenty frames of Python's stack a level
and fail between 41 and 50 levels of a fresh stack; a call named like a type (`DATE(`, `STRUCT(`) is tried as a type
first, so that each level doubles the time: eleven levels take 0.1 s, twenty take minutes.
"""

#: Characters of the text: the same as of a predicate.
MAX_CHARS = 8_192
#: Tokens of the text.
MAX_TOKENS = 3_000
#: Brackets of both kinds and CASE inside one another, together.
MAX_DEPTH = 24
#: Calls named like a type, STRUCT, ARRAY and square brackets inside one another.
MAX_DOUBLING_DEPTH = 5
#: `NOT`, `-`, `+` or `~` in a row.
MAX_UNARY_RUN = 8
#: Operators of arithmetic in one bracket: sqlglot's tree of them leans to one side, a frame for each.
MAX_CHAIN = 150
#: Set operations beside one another in one bracket.
MAX_SET_OPERATIONS = 50
#: SELECTs in one statement.
MAX_SELECTS = 100
#: Nodes that sqlglot may build from the text.
MAX_NODES = 20_000
#: Elements of a generated array, and characters or repetitions that a text may be padded to.
MAX_STEPS = 10_000
#: A snapshot of a table's past: GoogleSQL keeps seven days.
MAX_PAST_DAYS = 7
