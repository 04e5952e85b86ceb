"""Prompts: to get to know a table, to answer a question, to make a question cheaper.

Hosts that let people type arguments pass one word for each and drop the rest, so a word is never looked up as a table,
and what arrived may be the beginning of what was typed: the messages say so. They are text alone, because some adapters
of prompts break on anything else.
"""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver.prompts.base import Message, UserMessage
from pydantic import Field

from agnes_mcp.serving.server import AgnesServer

TableId = Annotated[str, Field(description="Table id from the catalog", max_length=256)]

TYPED = """\
The person typed: {typed}
A host may have passed only the first words: if the conversation shows that more was typed, take all of it. If what is
named above is no table of the catalog, it is a word of their sentence: choose the table that fits, and say which."""

EXPLORE = """\
Get to know the table {table_id}. {goal}
{typed}
1. schema: say what one row stands for, and which column is the key, the time, the partition.
2. Call sample for a few rows. Note nulls, units, codes that need explaining.
3. With aggregates (scan, group_by), count rows per period and per main category; estimate first if it is remote.
4. End with: what it can answer, what it cannot, and three predicates that are worth knowing, in its dialect."""

ANSWER = """\
{asked}
1. catalog: choose the table, and say why it is the one. If none fits, say so and stop.
2. schema: name the columns that you need, the partition column and the predicate.
3. estimate: say what it will cost before you spend.
4. One scan with group_by and aggregates, if that answers it; fetch and query only if several steps need the same rows.
5. Give the answer with its period, its filters, the bytes billed and the cost, and what could make it wrong."""

ASKED = "Answer this question with the tables of this server: {question}"
ONE_WORD = """\
The host passed one word of a question: {question}
Take the question from what the person typed. If there is nothing more than this word, ask what they want to know, and
do nothing else. Then answer it with the tables of this server:"""

REDUCE = """\
Make reading {table_id} cheaper. Columns wanted: {columns}. Condition: {where}.
{typed}
1. estimate it as it is, and read the advice.
2. Try, one at a time and each with estimate: fewer columns; a condition on the partition column; a condition on the
   first clustering column; aggregates instead of rows; a snapshot that is already here (snapshot_list).
3. Report a table of variants: bytes, USD, what is lost. Recommend one. Run nothing."""


def register(server: AgnesServer) -> None:
    async def explore_table(
        table_id: TableId, goal: Annotated[str, Field(description="What it is wanted for", max_length=2_000)] = ""
    ) -> list[Message]:
        """Get to know one table: what a row means, what is in it, what it can answer."""
        wanted = f"It is wanted for: {goal}" if goal else ""
        return [UserMessage(EXPLORE.format(table_id=table_id, goal=wanted, typed=typed(table_id, goal)))]

    async def answer_question(
        question: Annotated[str, Field(description="The question, with its period", max_length=4_000)],
    ) -> list[Message]:
        """Answer a question from the tables, with the price known before anything is spent."""
        asked = ASKED if len(question.split()) > 1 else ONE_WORD
        return [UserMessage(ANSWER.format(asked=asked.format(question=question)))]

    async def reduce_cost(
        table_id: TableId,
        columns: Annotated[str, Field(description="Columns wanted, with commas between", max_length=8_000)] = "",
        where: Annotated[str, Field(description="The condition in mind", max_length=8_000)] = "",
    ) -> list[Message]:
        """Find the cheapest way to the same answer, by estimates alone."""
        named = {"table_id": table_id, "columns": columns or "not said", "where": where or "none"}
        return [UserMessage(REDUCE.format(**named, typed=typed(table_id, columns, where)))]

    server.prompt(title="Explore a table")(explore_table)
    server.prompt(title="Answer a question")(answer_question)
    server.prompt(title="Make it cheaper")(reduce_cost)


def typed(*arguments: str) -> str:
    return TYPED.format(typed=" ".join(filter(None, arguments)))
