"""How large a predicate may be. Every cap holds before any parser of SQL sees the text.

Measured on sqlglot 30: parsing time grows with the number of tokens, the Python stack with the depth of brackets
(about twenty frames a level), and time doubles with each nested call whose name is also the name of a type (`DATE(`,
`STRUCT(`): sixteen of those take seconds, twenty-four take hours.
"""

#: Characters of the text.
MAX_CHARS = 8_192
#: Tokens of the text: room for an IN list of about a thousand values.
MAX_TOKENS = 2_000
#: Round and square brackets inside one another.
MAX_DEPTH = 16
#: Calls named like a type, and lists or subscripts in square brackets, inside one another.
MAX_TYPE_CALL_DEPTH = 4
#: `NOT`, or `-`, in a row.
MAX_UNARY_RUN = 8
#: `CASE` inside `CASE`.
MAX_CASE_DEPTH = 8
#: Operands of one chain of arithmetic or of `||`.
MAX_CHAIN = 100
#: Characters of one number.
MAX_NUMBER_CHARS = 40
#: Characters that one REPLACE may put in place of fewer: results grow by that factor.
MAX_REPLACEMENT_CHARS = 64
#: Nodes that sqlglot may build from the rendered predicate.
MAX_NODES = 6_000
#: Characters of the refused text that an error repeats.
MAX_FRAGMENT_CHARS = 80
#: `EXISTS` over lists in one predicate.
MAX_EXISTS = 16
#: `EXISTS` over the lists of an element inside `EXISTS`.
MAX_EXISTS_DEPTH = 2
