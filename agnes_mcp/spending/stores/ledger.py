"""Books in a database: what all stores have in common. A store says where its sessions and its clock come from, and
how it knows that a process is gone."""

from __future__ import annotations

import logging
import re
import secrets
import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.models import JobReference, QuotaLeft
from agnes_mcp.spending import books
from agnes_mcp.spending.books import KEEP_DAYS, Agreed, Books, Limits, Reservation, Spent, Unsettled, nobody_asked
from agnes_mcp.spending.stores import statements as sql
from agnes_mcp.spending.stores.statements import Session

logger = logging.getLogger(__name__)
#: How long a bill that nobody was asked about is kept at least: who shares the books may have a longer window.
_KEEP_UNASKED_S = 86_400.0


class Ledger(Books):
    """`owner` names this process in the store, for as long as it lives."""

    def __init__(self) -> None:
        self.owner = secrets.token_hex(8)
        self._unwritten: dict[str, int | None] = {}  # leases whose end could not be written yet, and their bills
        self._unwritten_lock = threading.Lock()
        self._forgot_before = ""

    @abstractmethod
    def _session(self, scopes: Collection[str] | None = None, durable: bool = False) -> AbstractContextManager[Session]:
        """A transaction: committed at the end, rolled back by what is raised; blocks others of the same store or scope.

        `scopes` None: it only reads. `durable`: it survives a power cut, too.
        """

    @abstractmethod
    def _now(self, session: Session) -> datetime:
        """The store's clock, UTC."""

    @abstractmethod
    def _adopt(self) -> bool:
        """Take over the leases of processes that are gone. Whether there were any."""

    def _take_part(self, session: Session) -> None:
        """Make sure that others see this process alive before a lease is in its name."""

    def reserve(
        self,
        principal: str,
        reserved_bytes: int,
        limits: Limits,
        request_id: str = "",
        agreed: Agreed = nobody_asked,
    ) -> Reservation:
        self._write_the_unwritten()
        lease = secrets.token_hex(12)
        try:
            return self._reserve(lease, principal, reserved_bytes, limits, request_id, agreed)
        except QuotaError:
            if not self._adopt():  # what stands in the way may have died
                raise
        return self._reserve(lease, principal, reserved_bytes, limits, request_id, agreed)

    def unasked(self, principal: str, limits: Limits) -> int:
        if not limits.unasked_window_s:
            return 0
        with self._session() as session:
            return _unasked(session, principal, limits, self._now(session))

    def left(self, principal: str, limits: Limits) -> QuotaLeft:
        self._write_the_unwritten()
        self._adopt()
        with self._session() as session:
            now = self._now(session)
            spent = _spent(session, [budget.scope for budget in limits.budgets(principal)], now)
            running = _running(session, principal)
        return books.standing(principal, limits, spent, running, now)

    def restore(self, billed_today: Callable[[], Mapping[str, int]]) -> None:
        with self._session() as session:
            if session.execute(sql.READ_META, {"name": "restored"}).fetchall():
                return
        billed = billed_today()
        with self._session(scopes=sorted(billed), durable=True) as session:
            now = self._now(session)
            marker = {"name": "restored", "value": now.isoformat()}
            if session.execute(sql.ADD_META, marker).rowcount == 1:  # one of the processes that start together
                _spend(session, _day(now), {scope: max(0, amount) for scope, amount in billed.items()})

    def intend(self, lease: str, job: JobReference | None) -> None:
        named = job.model_dump() if job else {"project": None, "location": None, "job_id": None}
        with self._session(scopes=(), durable=True) as session:
            since = self._now(session).timestamp()
            held = session.execute(sql.INTEND, {"lease": lease, "since": since, **named}).rowcount
        if held != 1:
            raise AgnesError(
                "quota_unavailable",
                "The reservation of this call has lapsed: the quota's store had not heard of this server for too long.",
                "Nothing was billed. Call again.",
            )

    def settle(self, lease: str, bytes_billed: int | None) -> None:
        try:
            self._end(lease, bytes_billed)
        except AgnesError as error:  # the lease stays as it is, and counts, until this can be written
            with self._unwritten_lock:
                self._unwritten[lease] = bytes_billed
            logger.error("a settlement could not be written and will be tried again: %s", error.kind)

    def unsettled(self) -> list[Unsettled]:
        self._write_the_unwritten()
        self._adopt()
        with self._session() as session:
            now = self._now(session).timestamp()
            rows = session.execute(sql.UNSETTLED, {}).fetchall()
        return [_unsettled(row, now) for row in rows]

    def correct(self, unsettled: Unsettled, bytes_billed: int) -> bool:
        return self._end(unsettled.lease, bytes_billed)

    def _reserve(
        self, lease: str, principal: str, reserved_bytes: int, limits: Limits, request_id: str, agreed: Agreed
    ) -> Reservation:
        budgets = limits.budgets(principal)
        scopes, writing = [budget.scope for budget in budgets], False
        try:
            with self._session(scopes=scopes) as session:
                now = self._now(session)
                knows = agreed(_unasked(session, principal, limits, now) if reserved_bytes else 0)
                running = _running(session, principal)
                if running >= limits.max_concurrent:
                    raise books.refuse_slot(running, limits.max_concurrent)
                books.check(budgets, _spent(session, scopes, now), reserved_bytes, now)
                writing = True
                self._take_part(session)
                self._forget(session, now)
                lease_row = {
                    "lease": lease, "owner": self.owner, "principal": _storable(principal), "request_id": request_id,
                    "day": _day(now), "bytes": reserved_bytes, "since": now.timestamp(),
                }  # fmt: skip
                session.execute(sql.ADD_LEASE, lease_row)
                for scope in sorted(scopes):
                    session.execute(sql.ADD_CHARGE, {"lease": lease, "scope": _storable(scope)})
                if reserved_bytes:
                    _note_unasked(session, lease_row, knows, limits)
        except AgnesError:
            if writing:  # it may have been written all the same: only the answer was lost
                with self._unwritten_lock:
                    self._unwritten[lease] = 0
            raise
        return Reservation(self, lease, principal, _day(now), reserved_bytes)

    def _end(self, lease: str, bytes_billed: int | None) -> bool:
        """Whether there still was such a lease. None: its bytes count as billed from now on, and its slot is free."""
        with self._session(scopes=()) as session:  # lost in a power cut, the intent is there again, and is asked about
            if bytes_billed is None:
                return session.execute(sql.ASSUME, {"lease": lease}).rowcount == 1
            row = next(iter(session.execute(sql.READ_LEASE, {"lease": lease}).fetchall()), None)
            if row is None or session.execute(sql.DROP_LEASE, {"lease": lease}).rowcount != 1:
                return False
            scopes = [str(charge[0]) for charge in session.execute(sql.READ_CHARGES, {"lease": lease}).fetchall()]
            session.execute(sql.DROP_CHARGES, {"lease": lease})
            session.execute(sql.BILL_UNASKED, {"lease": lease, "bytes": bytes_billed})
            if bytes_billed > 0:
                _spend(session, str(row[0]), dict.fromkeys(scopes, bytes_billed))
        return True

    def _write_the_unwritten(self) -> None:
        """End what could not be ended before. Raises where it still cannot be: then nothing new may begin."""
        with self._unwritten_lock:
            waiting = list(self._unwritten.items())
        for lease, bytes_billed in waiting:
            self._end(lease, bytes_billed)
            with self._unwritten_lock:
                if self._unwritten.get(lease) == bytes_billed:  # else its bill has become known meanwhile
                    self._unwritten.pop(lease, None)

    def _take_over(self, session: Session, owner: str) -> bool:
        """What this process, which is gone, had not sent is given up; what it may have sent counts as billed."""
        session.execute(sql.ADOPT_CHARGES, {"owner": owner})
        session.execute(sql.ADOPT_UNASKED, {"owner": owner})
        freed = session.execute(sql.ADOPT_HELD, {"owner": owner}).rowcount
        return freed + session.execute(sql.ADOPT_INTENDED, {"owner": owner}).rowcount > 0

    def _forget(self, session: Session, now: datetime) -> None:
        oldest = _day(now - timedelta(days=KEEP_DAYS))
        if oldest == self._forgot_before:
            return
        self._forgot_before = oldest
        for statement in sql.FORGET:
            session.execute(statement, {"day": oldest})


def _storable(name: str) -> str:
    """A name as a database takes it: the OS may give one that is not Unicode."""
    return re.sub("[\x00\ud800-\udfff]", lambda odd: f"\\u{ord(odd[0]):04x}", name)


def _day(now: datetime) -> str:
    return now.date().isoformat()


def _running(session: Session, principal: str) -> int:
    return int(session.execute(sql.RUNNING, {"principal": _storable(principal)}).fetchall()[0][0])


def _unasked(session: Session, principal: str, limits: Limits, now: datetime) -> int:
    if not limits.unasked_window_s:
        return 0
    after = now.timestamp() - limits.unasked_window_s
    rows = session.execute(sql.UNASKED, {"principal": _storable(principal), "after": after}).fetchall()
    return int(rows[0][0])


def _note_unasked(session: Session, lease: Mapping[str, Any], agreed: bool, limits: Limits) -> None:
    """A person who said yes knew the sum, which begins anew; anything else is counted before somebody else looks."""
    if agreed:
        session.execute(sql.CLEAR_UNASKED, {"principal": lease["principal"]})
    elif limits.unasked_window_s:
        before = lease["since"] - max(limits.unasked_window_s, _KEEP_UNASKED_S)
        session.execute(sql.FORGET_UNASKED, {"principal": lease["principal"], "before": before})
        session.execute(sql.ADD_UNASKED, {name: lease[name] for name in ("lease", "principal", "bytes", "since")})


def _spent(session: Session, scopes: Sequence[str], now: datetime) -> dict[str, Spent]:
    named = {_storable(scope): scope for scope in scopes}
    params = {f"scope{number}": scope for number, scope in enumerate(named)}
    statement = sql.SPENT.format(scopes=", ".join(f":{name}" for name in params))
    rows = session.execute(statement, {"day": _day(now), **params}).fetchall()
    return {named[row[0]]: Spent(int(row[1]) + int(row[2]), int(row[2]), int(row[3])) for row in rows}


def _spend(session: Session, day: str, billed: Mapping[str, int]) -> None:
    for scope in sorted(billed):  # always in this order, so that no two sessions wait for each other
        session.execute(sql.SPEND, {"scope": _storable(scope), "day": day, "bytes": billed[scope]})


def _unsettled(row: sql.Row, now: float) -> Unsettled:
    job = JobReference(project=row[5], location=row[6] or "", job_id=row[7]) if row[7] else None
    return Unsettled(str(row[0]), str(row[1]), str(row[2]), int(row[3]), max(0.0, now - float(row[4])), job)
