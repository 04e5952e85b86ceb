"""One process that spends, from JSON in its first argument; what it is billed it writes down as BigQuery would.

`store`, `folder`: the books. `tasks` threads, `rounds` of each; `bytes` reserved per round, of which at most as many
are billed. `bill` is a file: a line `job bytes` per job, written between intent and settlement, as a job bills.
Prints `ready` and waits for a line on stdin before it begins; at the end prints how many were granted and refused.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

from agnes_mcp.errors import QuotaError
from agnes_mcp.models import JobReference
from agnes_mcp.spending.books import Books, Budget, Limits
from agnes_mcp.spending.stores import open_books
from agnes_mcp.spending.stores.postgres import PostgresBooks


def spend(books: Books, told: dict[str, Any], seed: int, counts: dict[str, int], bill: int) -> None:
    chance = random.Random(seed)
    shared = tuple(Budget(kind, name, limit) for kind, name, limit in told.get("shared", ()))
    for number in range(told["rounds"]):
        principal = chance.choice(told["principals"])
        limits = Limits(told["slots"], told["limit"], shared)
        try:
            reservation = books.reserve(principal, told["bytes"], limits, f"{seed}-{number}")
        except QuotaError as refused:
            counts[str(refused.details["kind"])] = counts.get(str(refused.details["kind"]), 0) + 1
            continue
        counts["granted"] = counts.get("granted", 0) + 1
        with reservation:
            job = JobReference(project="my-project", job_id=f"job_{os.getpid()}_{seed}_{number}")
            if chance.random() < 0.1:
                continue  # given up before anything was sent
            reservation.intend(job)
            billed = chance.randint(told["bytes"] // 2, told["bytes"])
            os.write(bill, f"{job.job_id} {billed}\n".encode())
            reservation.settle(None if chance.random() < 0.05 else billed)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(told: dict[str, Any]) -> None:
    if told.get("expires_after_s"):
        books: Books = PostgresBooks(told["store"], told["expires_after_s"] / 6, told["expires_after_s"])
    else:
        books = open_books(told["store"], Path(told["folder"]))
    books.left(told["principals"][0], Limits(1, 1))
    say("ready")
    sys.stdin.readline()
    bill = os.open(told["bill"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    counts: dict[str, int] = {}
    threads = [
        threading.Thread(target=spend, args=(books, told, told["seed"] * 1000 + number, counts, bill))
        for number in range(told["tasks"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    books.close()
    say(json.dumps(counts))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
