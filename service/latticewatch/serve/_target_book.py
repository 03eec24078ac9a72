"""Who has which target, and which were visited: in memory, and in the log before anybody is told."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latticewatch.execute._parts import Log
from latticewatch.messages import (
    Annotation,
    AnnotationRequest,
    Lease,
    Target,
    TargetAnnotatedData,
    TargetLeasedData,
    TargetRequest,
)

if TYPE_CHECKING:
    from latticewatch.record import LoggedEvent

TYPES = ("target.leased", "target.annotated")
# Targets, places and keys that are remembered; the oldest go first.
MAX_VISITED = 100_000
MAX_KEYS = 10_000
MAX_LEASES = 1000
# Sides of the squares in which visited places are looked up [nm]; the largest distance that a request may ask for.
CELL_NM = 1.0


class TakenError(Exception):
    """The key belongs to another request, or somebody else has the target."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease: of whom, until when on our own clock, and where its target is on the specimen."""

    holder: str
    until: float
    place: tuple[float, float] | None


class TargetBook:
    """Leases, visits and keys of one log; safe in any thread.

    What it holds is made from the log's own events when it is first asked, so that it outlives the process. An event is
    on disk before its answer is given.

    Parameters
    ----------
    log : Log
    clock : callable
        Monotonic time [s].
    placed : callable
        Gives the data of an event with the series, source and detector that it belongs to.
    """

    def __init__(
        self,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        placed: Callable[[Any], Any] = lambda data: data,
    ) -> None:
        self._log, self._clock, self._placed = log, clock, placed
        self._lock = threading.Lock()
        self._read_up_to: int | None = None
        self._leases: dict[str, Held] = {}
        self._visited: OrderedDict[str, None] = OrderedDict()
        self._places: OrderedDict[tuple[int, int], list[tuple[float, float]]] = OrderedDict()
        # By kind and key: the digest of the request, and what was answered.
        self._keys: OrderedDict[tuple[str, str], tuple[str, Lease | Annotation]] = OrderedDict()

    def lease(self, asked: TargetRequest, offer: Callable[[], list[Target]]) -> Lease:
        """Give the first target of an offer that nobody has and nobody had.

        Parameters
        ----------
        asked : TargetRequest
        offer : callable
            Gives the targets, best first.

        Raises
        ------
        TakenError
            The key was used for another request.
        LatticewatchError
            It is not on disk; nobody has it.
        """
        with self._lock:
            self._read()
            known = self._known("lease", asked.key, asked.model_dump_json())
            if isinstance(known, Lease):
                return self._again(known)
            targets = offer()
            free = [target for target in targets if self._state_of(target, asked.apart_nm) is None]
            if not free:
                return Lease(target=None, holder=asked.holder, key=asked.key, left=0, reason=_why(targets))
            if len(self._leases) >= MAX_LEASES:
                raise TakenError(
                    f"{MAX_LEASES} targets are leased, which is the limit; wait, or give some back"
                )
            target = free[0]
            data = TargetLeasedData(
                target=target.id,
                holder=asked.holder,
                policy=asked.policy,
                key=asked.key,
                until=time.time() + asked.ttl_s,
                found=target,
                asked=_digest(asked.model_dump_json()),
            )
            self._log.append([("target.leased", self._placed(data))], None)
            self._hold(data, asked.ttl_s)
            lease = Lease(
                target=target,
                holder=asked.holder,
                key=asked.key,
                expires_in_s=asked.ttl_s,
                left=len(free) - 1,
            )
            self._remember("lease", asked.key, data.asked, lease)
            return lease

    def annotate(self, asked: AnnotationRequest) -> Annotation:
        """Write down what became of a target.

        Raises
        ------
        TakenError
            Somebody else has it, or the key was used for another request.
        LatticewatchError
            It is not on disk.
        """
        with self._lock:
            self._read()
            known = self._known("annotate", asked.key, asked.model_dump_json())
            if isinstance(known, Annotation):
                return known
            held = self._held(asked.target)
            if held is not None and held.holder != asked.holder and asked.outcome != "note":
                raise TakenError(
                    f"target {asked.target}: {held.holder} has it for {held.until - self._clock():.0f} s"
                )
            place = None
            if held is not None and held.place is not None:
                place = {"x": held.place[0], "y": held.place[1]}
            fields = asked.model_dump()
            digest = _digest(asked.model_dump_json())
            data = TargetAnnotatedData.model_validate({**fields, "specimen_nm": place, "asked": digest})
            (event,) = self._log.append([("target.annotated", self._placed(data))], None)
            self._settle(data)
            answer = Annotation(seq=event.seq, target=asked.target, outcome=asked.outcome)
            self._remember("annotate", asked.key, digest, answer)
            return answer

    def sort(self, targets: list[Target], apart_nm: float) -> tuple[list[Target], int, int]:
        """Those that could be had, how many are leased, and how many were visited."""
        with self._lock:
            self._read()
            states = [self._state_of(target, apart_nm) for target in targets]
        free = [target for target, state in zip(targets, states, strict=True) if state is None]
        return free, states.count("leased"), states.count("visited")

    # What is known of a target

    def _state_of(self, target: Target, apart_nm: float) -> str | None:
        if target.id in self._visited:
            return "visited"
        if self._held(target.id) is not None:
            return "leased"
        if target.specimen_nm is None or not apart_nm:
            return None
        place = (target.specimen_nm.x, target.specimen_nm.y)
        if self._was_near(place, apart_nm):
            return "visited"
        near = (
            held.place is not None and math.dist(held.place, place) <= apart_nm
            for key in list(self._leases)
            if (held := self._held(key)) is not None
        )
        return "leased" if any(near) else None

    def _held(self, target: str) -> Held | None:
        held = self._leases.get(target)
        if held is not None and held.until <= self._clock():
            del self._leases[target]
            return None
        return held

    def _was_near(self, place: tuple[float, float], apart_nm: float) -> bool:
        reach = math.ceil(apart_nm / CELL_NM)
        row, col = _cell(place)
        if (2 * reach + 1) ** 2 > len(self._places):
            return any(math.dist(place, one) <= apart_nm for all_ in self._places.values() for one in all_)
        return any(
            math.dist(place, one) <= apart_nm
            for i in range(row - reach, row + reach + 1)
            for j in range(col - reach, col + reach + 1)
            for one in self._places.get((i, j), ())
        )

    def _hold(self, data: TargetLeasedData, ttl_s: float) -> None:
        at = data.found.specimen_nm
        place = None if at is None else (at.x, at.y)
        self._leases[data.target] = Held(data.holder, self._clock() + ttl_s, place)

    def _settle(self, data: TargetAnnotatedData) -> None:
        if data.outcome == "note":
            return
        self._leases.pop(data.target, None)
        if data.outcome == "released":
            return
        self._visited[data.target] = None
        if data.specimen_nm is not None:
            place = (data.specimen_nm.x, data.specimen_nm.y)
            self._places.setdefault(_cell(place), []).append(place)
        while len(self._visited) > MAX_VISITED:
            self._visited.popitem(last=False)
        while len(self._places) > MAX_VISITED:
            self._places.popitem(last=False)

    # Keys

    def _known(self, kind: str, key: str | None, asked: str) -> Lease | Annotation | None:
        if key is None or (kind, key) not in self._keys:
            return None
        digest, answer = self._keys[kind, key]
        if digest != _digest(asked):
            raise TakenError(f"key {key!r} was used for another request; give each request a key of its own")
        return answer

    def _again(self, lease: Lease) -> Lease:
        target = lease.target
        held = None if target is None else self._held(target.id)
        left_s = 0.0 if held is None or held.holder != lease.holder else held.until - self._clock()
        return lease.model_copy(update={"expires_in_s": round(left_s, 3)})

    def _remember(self, kind: str, key: str | None, digest: str, answer: Lease | Annotation) -> None:
        if key is not None:
            self._keys[kind, key] = (digest, answer)
            while len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)

    # The log

    def _read(self) -> None:
        if self._read_up_to is not None:
            return
        after, last = 0, self._log.last_seq
        while after < last:
            events, after, *_ = self._log.read(after, 10_000, TYPES)
            for event in events:
                self._take(event)
        self._read_up_to = last

    def _take(self, event: LoggedEvent) -> None:
        if event.type == "target.leased":
            data = TargetLeasedData.model_validate_json(event.text)
            self._hold(data, data.until - time.time())
            lease = Lease(target=data.found, holder=data.holder, key=data.key, left=0)
            self._remember("lease", data.key, data.asked, lease)
        else:
            data = TargetAnnotatedData.model_validate_json(event.text)
            self._settle(data)
            answer = Annotation(seq=event.seq, target=data.target, outcome=data.outcome)
            self._remember("annotate", data.key, data.asked, answer)


def _why(targets: list[Target]) -> str:
    if not targets:
        return "no such defect in view"
    return f"all {len(targets)} such defects in view are leased or were visited"


def _cell(place: tuple[float, float]) -> tuple[int, int]:
    return math.floor(place[1] / CELL_NM), math.floor(place[0] / CELL_NM)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
