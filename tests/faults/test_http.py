"""Every operation of the API, asked whatever its own description allows and forbids. ``--faults N`` asks N times."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from _fake_learner import grid_image
from _running import PATIENCE_S, running

# An endless answer: it is asked below, with a client that hangs up.
ENDLESS = "/v1/events/stream"
schemathesis = pytest.importorskip(
    "schemathesis", reason="is not in every environment: --group test brings it"
)
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
# Of bytes there is one way to send them, whatever they are called.
schemathesis.serializer.alias("application/vnd.latticewatch.model+npz", "application/octet-stream")
# Calls of each operation where nobody asks for more.
FEW = 3
GROWTH, LONG = 1.05, 20_000

pytestmark = pytest.mark.timeout(0)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    waits = {"max_wait_s": 0.05}
    with running(tmp_path_factory.mktemp("http"), serve=waits) as service:
        service.sender.send(grid_image(), n=3)
        service.analysed(3)
        yield service


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_no_operation_answers_that_it_failed(live, request):
    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == sum(
        len(methods) for methods in live.http.get("/openapi.json").json()["paths"].values()
    )
    operations = [one for one in operations if one.path != ENDLESS]
    asked = request.config.getoption("--faults")
    each = -(-asked // (2 * len(operations))) or FEW
    statuses: dict[int, int] = {}
    memory = []
    failed: list[str] = []

    def call(case) -> None:
        response = case.call(timeout=PATIENCE_S)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        # not to be ready is no fault: classes are asked to be learnt anew, too
        if response.status_code >= 500 and case.path != "/readyz":
            failed.append(f"{response.status_code} {case.as_curl_command()} {response.text[:200]}")

    # in rounds, so that what each operation leaves behind is there when the others are asked
    rounds = max(1, each // 100)
    for round_ in itertools.count():
        for operation in operations:
            for mode in MODES:
                once = settings(
                    max_examples=min(each, 100),
                    deadline=None,
                    database=None,
                    derandomize=rounds == 1,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate],
                )
                # nothing can be wrong with a question that has no parameters
                with suppress(Unsatisfiable, SkipTest):
                    once(given(operation.as_strategy(generation_mode=mode))(call))()
        if round_ == rounds // 5:
            memory.append(resident_mib())
        # of some operations only few questions can be asked
        if round_ >= rounds - 1 and sum(statuses.values()) >= asked:
            break
    memory.append(resident_mib())
    n = sum(statuses.values())
    request.config.get_terminal_writer().line(
        f"\n{n} calls of {len(operations)} operations: {dict(sorted(statuses.items()))}, memory {memory} MiB"
    )
    assert not failed, failed[:3]
    assert statuses.get(200)
    assert live.http.get("/healthz").status_code == 200
    if n >= LONG:
        assert memory[-1] <= GROWTH * memory[0]


@pytest.mark.parametrize(
    "params", [{}, {"after": "x"}, {"after": -1}, {"after": 10**30}, {"types": "no.such"}]
)
def test_the_endless_answer_begins_or_is_refused(live, params):
    with httpx.stream("GET", live.url + ENDLESS, params=params, timeout=PATIENCE_S) as response:
        assert response.status_code in (200, 410, 422)
