"""The control loop: a target leased, the gate asked, the intent written, the act done, verified, annotated."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from latticewatch.errors import (
    ControlError,
    ControlRefusedError,
    ServiceError,
    ServiceUnreachableError,
)
from latticewatch.messages import Kind, Nanometres, Policy, Target, TrackState
from latticewatch_client import acts
from latticewatch_client._client import Client
from latticewatch_client._gate import Answer, Gate, Refuse, Wait
from latticewatch_client._hands import Hands, Sight, StoppedError, charge_past
from latticewatch_client._journal import Journal
from latticewatch_client.microscope import Microscope

Outcome = Literal["done", "failed", "refused", "waits", "would"]
# How long a target that has to wait is left alone, and how long one looks for a target before looking anew [s].
ASK_AGAIN_S = 0.5
LOOK_AGAIN_S = 1.0
# Frames of a new field before targets are taken from it: evidence has to add up.
FIELD_FRAMES = 10
# Reasons to refuse what a target has become since it was chosen: it is given back, and may be chosen anew as it is
# then, so often. All others are for good.
CHANGED = ("too old", "model", "confidence", "edge")
MOST_GIVEN_BACK = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What the loop did about one target, or why it did not.

    Attributes
    ----------
    target : Target or None
        None for a step to another field, or where nothing was leased.
    outcome : str
        ``done``, ``failed``, ``refused`` and ``waits`` by the gate, or ``would`` of a dry run.
    reason, detail : str
        Why.
    sight : Sight or None
        The target in the frames that were acquired of it.
    """

    target: Target | None
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    sight: Sight | None = None


@dataclass(slots=True)
class LoopReport:
    """What a loop has done: acts, those that a dry run would have done, failures, refusals and waits by reason."""

    done: int = 0
    would: int = 0
    fields: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    waited: Counter[str] = field(default_factory=Counter)

    def count(self, step: Step) -> None:
        """Add one step.

        Parameters
        ----------
        step : Step
        """
        if step.outcome == "done":
            self.done += 1
        elif step.outcome == "would":
            self.would += 1
        elif step.outcome == "failed":
            self.failed[step.reason] += 1
        elif step.outcome == "refused":
            self.refused[step.reason] += 1
        else:
            self.waited[step.reason] += 1


class Loop:
    """Takes one target after another and acts on it; safe to leave alone.

    A target is leased from the service, so that two loops never have the same, and is not given out again once it was
    acted on. The gate is asked with what is known at that moment; what waits is kept, what is refused is not. The
    intent is on disk before the first action; every action goes through the gate and the journal once more. After a
    kill the next run goes on with the act that was interrupted, by the same ids, so that nothing is done twice. The
    beam is blanked on every way out.

    Parameters
    ----------
    client : Client
        Of the service that sees the defects; needs the control key where there are keys.
    microscope : Microscope
        That takes its frames.
    policy : str
        ``nearest``, ``most-confident``, ``most-uncertain``, ``newest``, ``farthest`` or ``random``.
    act : callable
        What to do with a target: called with `Hands` and the `Target`; see `latticewatch_client.acts`.
    gate : Gate, optional
        What must hold.
    journal : Journal, optional
        Where intents are kept; without one a restart does not know what was begun.
    classes, kinds : sequence of str
        Only these classes by name, or kinds of change; none means every defect.
    holder : str, optional
        Name of this loop; made up where none is given.
    ttl_s : float
        For how long a target is leased [s].
    fields : iterable of tuple of float
        Places on the specimen to go to, one after another, when a field has no target left; see `tiles`. What it has
        drifted meanwhile is added [nm].
    survey : int
        Go to all fields first, take so many frames of each, and then take targets from all that was seen, in view or
        not; 0 takes the targets of a field before it goes to the next.
    verify_nm : float, optional
        Farther from the middle than this at the end, and when it was exposed if it was, an act has failed [nm]; None
        does not look.
    dry_run : bool
        Decide, and touch nothing: no lease, no move, no blanking.
    on_step : callable, optional
        Called with each `Step`; a wait is told when its reason is a new one.
    clock : callable
        Monotonic time [s].

    Examples
    --------
    >>> with Client() as client, ZmqMicroscope() as microscope:      # doctest: +SKIP
    ...     Loop(client, microscope, "nearest", acts.centre, classes=["Fe_W"]).run(steps=7)
    """

    def __init__(
        self,
        client: Client,
        microscope: Microscope,
        policy: Policy = "nearest",
        act: acts.Act = acts.centre,
        gate: Gate | None = None,
        journal: Journal | None = None,
        *,
        classes: Sequence[str] = (),
        kinds: Sequence[Kind] = (),
        holder: str | None = None,
        ttl_s: float = 120.0,
        fields: Iterable[tuple[float, float]] = (),
        survey: int = 0,
        verify_nm: float | None = 0.1,
        dry_run: bool = False,
        on_step: Callable[[Step], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._microscope = client, microscope
        self._policy: Policy = policy
        self._act, self._gate, self._journal = act, gate or Gate(), journal or Journal()
        self._classes, self._kinds = tuple(classes), tuple(kinds)
        self._holder = holder or f"loop-{uuid.uuid4().hex[:12]}"
        self._ttl_s, self._verify_nm, self._dry_run = ttl_s, verify_nm, dry_run
        self._fields = list(enumerate(fields))
        self._field_frames, self._survey = survey or FIELD_FRAMES, survey > 0
        self._on_step, self._clock = on_step, clock
        self._halt = threading.Event()
        # The target that is leased, until when, and when it was seen last.
        self._target: tuple[Target, float, float] | None = None
        self._waiting: str | None = None
        self._would: set[str] = set()
        self._given_back: Counter[str] = Counter()
        self.report = LoopReport()
        charge_past(self._gate, self._journal, clock())

    def run(self, steps: int | None = None, timeout: float | None = None) -> LoopReport:
        """Act on targets until there is an end to it.

        Parameters
        ----------
        steps : int, optional
            Return after so many acts, those of a dry run included.
        timeout : float, optional
            Return when no target has come for so long, and no field is left [s]; without it, wait for ever.

        Returns
        -------
        LoopReport

        Raises
        ------
        ControlError
            The journal cannot be written, or the microscope cannot be blanked.
        """
        idle_since = self._clock()
        try:
            if not self._dry_run:
                self._begin()
            while not self._halt.is_set():
                step = self.step()
                if step is not None and step.outcome != "waits":
                    idle_since = self._clock()
                if steps is not None and self._acts() >= steps:
                    break
                if step is None and timeout is not None and self._clock() - idle_since >= timeout:
                    break
                if step is None or step.outcome == "waits":
                    self._pause(ASK_AGAIN_S if self._target else LOOK_AGAIN_S)
        finally:
            if not self._dry_run:
                self._end()
        return self.report

    def step(self) -> Step | None:
        """One target: leased, asked about, acted on, annotated; None where there is none."""
        try:
            self._annotate_untold()
            step = self._resume() or self._next()
        except ServiceUnreachableError as error:
            step = Step(self._target[0] if self._target else None, "waits", "service", str(error))
        except StoppedError:
            return None
        if step is None:
            return None
        if step.outcome == "waits":
            if step.reason == self._waiting:
                return step
            self._waiting = step.reason
        else:
            self._waiting = None
        self.report.count(step)
        if step.outcome != "done":
            name = step.target.id if step.target else "no target"
            logger.info("%s: %s, %s: %s", name, step.outcome, step.reason, step.detail)
        if self._on_step is not None:
            self._on_step(step)
        return step

    def stop(self) -> None:
        """Begin no further action; from any thread or signal handler. The one that is being done ends."""
        self._halt.set()

    def emergency_stop(self) -> None:
        """Stop the microscope at once, from any thread or signal handler; then as `stop`.

        Nothing moves and the beam is blanked until a person releases it.
        """
        self._halt.set()
        self._microscope.stop()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._halt.is_set()

    # Beginning and end

    def _begin(self) -> None:
        state = self._microscope.state()
        if state.stopped:
            raise ControlRefusedError("an emergency stop is in force: see that all is well, then release it")
        self._microscope.blank(False)

    def _end(self) -> None:
        try:
            self._microscope.blank(True)
        except ControlError:
            logger.exception("the beam was not blanked; stopping the microscope instead")
            self._microscope.stop()
        if self._target is not None:
            target = self._target[0]
            self._target = None
            try:
                self._client.annotate(target.id, self._holder, "released", "the loop has ended")
            except ServiceError as error:
                logger.warning("%s: not given back, its lease ends by itself: %s", target.id, error)

    def _acts(self) -> int:
        return self.report.done + self.report.would + self.report.failed.total()

    def _pause(self, seconds: float) -> None:
        self._halt.wait(seconds)

    # One target

    def _next(self) -> Step | None:
        if self._target is not None and self._clock() >= self._target[1]:
            # Somebody else may have it by now.
            self._target = None
        if self._target is None and self._survey:
            while (left := self._next_field()) is not None:
                step = self._go_to_field(*left)
                if step is not None:
                    return step
        if self._target is None:
            target = self._lease()
            if target is None:
                left = self._next_field()
                return None if left is None else self._go_to_field(*left) or self._next()
            if target.id in self._journal.visited:
                # An earlier run acted on it, and the service was not told.
                self._client.annotate(target.id, self._holder, "done", "acted on before, says the journal")
                return None
            self._target = (target, self._clock() + self._ttl_s, self._clock())
        target, until, seen_at = self._target
        answer, now, seen_at = self._ask(target, seen_at)
        self._target = (target, until, seen_at)
        if isinstance(answer, Wait):
            return Step(target, "waits", answer.reason, answer.detail)
        self._target = None
        if isinstance(answer, Refuse):
            return self._refused(target, answer)
        if now is not None:
            target = target.model_copy(update={"track": now})
        if self._dry_run:
            place = target.track.stage_nm
            at = "" if place is None else f"({place.x:.2f}, {place.y:.2f}) nm"
            return Step(target, "would", getattr(self._act, "__name__", "act"), at)
        return self._perform(target)

    def _lease(self) -> Target | None:
        wanted: dict[str, Any] = {
            "classes": self._classes,
            "kinds": self._kinds,
            "min_confidence": self._gate.min_confidence,
        }
        if self._survey:
            wanted["out_of_view"] = True
        if self._dry_run:
            found = self._client.targets(self._policy, 1000, **wanted)
            fresh = [target for target in found.targets if target.id not in self._would]
            if fresh:
                self._would.add(fresh[0].id)
            return fresh[0] if fresh else None
        lease = self._client.next_target(
            self._holder, self._policy, self._ttl_s, min_edge_nm=self._gate.min_edge_nm, **wanted
        )
        return lease.target

    def _ask(self, target: Target, seen_at: float) -> tuple[Answer, TrackState | None, float]:
        try:
            state, limits = self._microscope.state(), self._microscope.limits()
        except ControlError as error:
            return Wait("microscope", str(error)), None, seen_at
        status = self._client.status()
        tracks = self._client.tracks("all", 10_000, out_of_view=self._survey)
        now = next((one for one in tracks.tracks if one.track == target.track.track), None)
        if now is not None:
            seen_at = self._clock() - (status.last_frame_age_s or 0.0)
        age_s = max(0.0, self._clock() - seen_at)
        return self._gate.check(target, now, age_s, status, state, limits, self._clock()), now, seen_at

    def _refused(self, target: Target, answer: Refuse) -> Step:
        if not self._dry_run:
            outcome = "refused"
            if answer.reason in CHANGED and self._given_back[target.id] < MOST_GIVEN_BACK:
                self._given_back[target.id] += 1
                outcome = "released"
            self._client.annotate(
                target.id, self._holder, outcome, f"{answer.reason}: {answer.detail}"[:1000]
            )
        return Step(target, "refused", answer.reason, answer.detail)

    # Acts

    def _perform(self, target: Target) -> Step:
        intent = uuid.uuid4().hex
        self._journal.write(
            "intent",
            intent,
            target=target.id,
            holder=self._holder,
            session=self._microscope.state().session,
            found=target.model_dump(mode="json"),
        )
        self._gate.acted(self._clock())
        return self._finish(intent, target)

    def _finish(self, intent: str, target: Target) -> Step:
        sight: Sight | None = None
        facts: dict[str, Any] = {}
        hands: Hands | None = None
        try:
            hands = self._hands(intent, target)
            self._act(hands, target)
            if self._verify_nm is not None:
                sight = hands.seen or hands.look()
            step = self._verdict(target, sight, hands.exposed)
        except StoppedError:
            # The intent stays open: the next run goes on from here.
            raise
        except ControlRefusedError as error:
            step = Step(target, "failed", "refused", str(error))
        except ControlError as error:
            step = Step(target, "failed", "microscope", str(error))
        if sight is not None:
            facts["offset_nm"] = sight.offset_nm
        if step.outcome == "done" and hands is not None and hands.exposed is not None:
            facts["offset_nm"] = hands.exposed.offset_nm
        if hands is not None and hands.acquired is not None:
            facts |= hands.acquired.model_dump(include={"series_id", "first", "last"})
        if hands is not None and hands.dose_e_per_a2:
            facts["dose_e_per_a2"] = hands.dose_e_per_a2
        detail = f"{step.reason}: {step.detail}"[:1000] if step.outcome == "failed" else None
        self._journal.write(step.outcome, intent, detail=detail, facts=facts)
        try:
            self._annotate_untold()
        except ServiceUnreachableError as error:
            logger.warning("%s: not annotated yet: %s", target.id, error)
        return step

    def _verdict(self, target: Target, sight: Sight | None, exposed: Sight | None) -> Step:
        """Whether an act has succeeded; where it exposed, the target had to be in the middle at that time.

        Afterwards it may drift for as long as the service is away.
        """
        if self._verify_nm is None:
            return Step(target, "done")
        if sight is None:
            return Step(target, "failed", "not seen", "not in the frames that were acquired of it")
        if sight.offset_nm > self._verify_nm and (exposed is None or exposed.offset_nm > self._verify_nm):
            off = f"{sight.offset_nm:.3f} nm from the middle, tolerance {self._verify_nm:g} nm"
            return Step(target, "failed", "off centre", off, sight)
        return Step(target, "done", sight=sight)

    def _hands(self, intent: str, target: Target) -> Hands:
        return Hands(
            intent,
            target,
            self._client,
            self._microscope,
            self._gate,
            self._journal,
            self._halt,
            self._clock,
        )

    def _resume(self) -> Step | None:
        """Go on with an act that was interrupted, or close it where nobody can know what was done."""
        if self._dry_run:
            return None
        for intent, entry in list(self._journal.open.items()):
            if "found" not in entry:
                self._journal.write("failed", intent, detail="interrupted", facts={})
                continue
            target = Target.model_validate(entry["found"])
            try:
                session = self._microscope.state().session
            except ControlError as error:
                return Step(target, "waits", "microscope", str(error))
            if session != entry["session"]:
                detail = "interrupted, and the microscope was started anew: nobody knows what was done"
                self._journal.write("failed", intent, detail=detail, facts={})
                return Step(target, "failed", "interrupted", detail)
            return self._finish(intent, self._where_now(target))
        return None

    def _where_now(self, target: Target) -> Target:
        """A target with its place as it is, however long ago it was leased."""
        for track in self._client.tracks("all", 10_000, out_of_view=self._survey).tracks:
            if track.track == target.track.track:
                return target.model_copy(update={"track": track})
        place = target.specimen_nm
        drift = self._client.latest_frame().stage_drift_nm if place is not None else None
        if place is None or drift is None:
            return target
        there = target.track.model_copy(
            update={"stage_nm": Nanometres(x=place.x + drift.x, y=place.y + drift.y)}
        )
        return target.model_copy(update={"track": there})

    def _annotate_untold(self) -> None:
        """Annotate what the service does not know of yet."""
        if self._dry_run:
            return
        for act, entry in list(self._journal.untold.items()):
            detail, facts = entry.get("detail"), entry.get("facts", {})
            # An earlier run may have leased it, and the lease be in force still.
            holder = entry.get("holder") or self._holder
            try:
                self._client.annotate(entry["target"], holder, entry["what"], detail, key=act, **facts)
            except ServiceUnreachableError:
                raise
            except ServiceError as error:
                logger.warning("%s: the annotation was refused: %s", entry["target"], error)
            self._journal.write("annotated", act)

    # Fields

    def _next_field(self) -> tuple[int, tuple[float, float]] | None:
        """Number and place of the first field that was not gone to yet, by an earlier run either."""
        while self._fields and f"field/{self._fields[0][0]}" in self._journal.visited:
            self._fields.pop(0)
        return self._fields[0] if self._fields else None

    def _go_to_field(self, number: int, place_nm: tuple[float, float]) -> Step | None:
        """Go to a field, if that may be; its intent and its end are in the journal as those of any act."""
        x_nm, y_nm = place_nm
        if self._dry_run:
            self._fields.pop(0)
            return Step(None, "waits", "dry run", f"would go to field {number} at ({x_nm:g}, {y_nm:g}) nm")
        status, state = self._client.status(), self._microscope.state()
        if status.phase != "live" or state.stopped:
            return Step(None, "waits", "not live", f"the service is {status.phase}")
        drift = self._client.latest_frame().stage_drift_nm
        self._fields.pop(0)
        intent = uuid.uuid4().hex
        self._journal.write("intent", intent, target=f"field/{number}", session=state.session)
        hands = self._hands(intent, _NO_TARGET)
        try:
            hands.go_to(x_nm + (drift.x if drift else 0.0), y_nm + (drift.y if drift else 0.0))
            hands.look(self._field_frames)
        except ControlError as error:
            self._journal.write("failed", intent, detail=str(error), facts={})
            return Step(None, "failed", "field", f"({x_nm:g}, {y_nm:g}) nm: {error}")
        self._journal.write("done", intent, facts={})
        self.report.fields += 1
        logger.info("field %d at (%g, %g) nm", number, x_nm, y_nm)
        return None


_NO_TARGET = Target.model_validate(
    {
        "id": "field",
        "track": {
            "track": -1, "class_id": -1, "class_name": "", "role": "unknown", "confidence": 0,
            "px": {"row": 0, "col": 0},
        },
        "kind": "named", "series_id": "", "frame": 0, "model_version": 0, "score": 0,
    }
)  # fmt: skip


def tiles(
    n_x: int, n_y: int, step_nm: float, centre_nm: tuple[float, float] = (0.0, 0.0)
) -> Iterator[tuple[float, float]]:
    """Places on the specimen that tile a sample, row by row, there and back.

    Parameters
    ----------
    n_x, n_y : int
        Fields along x and y.
    step_nm : float
        From one to the next [nm].
    centre_nm : tuple of float
        The middle of all of them (x, y) [nm].

    Yields
    ------
    tuple of float
        x, y of the stage [nm].
    """
    for row in range(n_y):
        columns = range(n_x) if row % 2 == 0 else reversed(range(n_x))
        for col in columns:
            yield (
                centre_nm[0] + (col - (n_x - 1) / 2) * step_nm,
                centre_nm[1] + (row - (n_y - 1) / 2) * step_nm,
            )
