"""A model's file: nothing but a model that works is taken, and why not is one line."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import socket
import zipfile
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from _running import PATIENCE_S, running
from latticewatch.cli import build
from latticewatch.config import AnalysisSettings
from latticewatch.errors import ConfigurationError, FileError
from latticewatch.ingest import Frame
from latticewatch.messages import ClassPatch
from latticewatch.pipeline import Learner, SavedModel, Surveyed, analyse, read_model, write_model
from latticewatch_client import Client

SETTINGS = AnalysisSettings(learning_frames=2)


@pytest.fixture(scope="module")
def learner() -> Learner:
    rng = np.random.default_rng(3)
    learner = Learner(SETTINGS)
    rows, cols = np.indices((192, 192))
    # a square lattice of soft columns, some of them missing
    clean = np.zeros((192, 192))
    for row in range(6, 192, 12):
        for col in range(6, 192, 12):
            if (row * 7 + col) % 97:
                clean += np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / 8)
    for k in range(2):
        image = rng.poisson(20 + 200 * clean).astype(np.uint16)
        learner.fold(analyse(Frame(image, "a", number=k, ordinal=k), learner.model, SETTINGS))
    assert learner.model is not None
    return learner


@pytest.fixture(scope="module")
def data(learner) -> bytes:
    return write_model(learner.model, "a-stream", 0.01)


def changed(data: bytes, change) -> bytes:
    """The file, with its description changed."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    tree = json.loads(arrays["json"].tobytes())
    change(tree["tree"]["dict"][0][1]["fields"], arrays)
    arrays["json"] = np.frombuffer(json.dumps(tree).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def fields_of_model(saved):
    return saved["model"]["fields"]


def test_a_model_comes_back_as_it_was(learner, data):
    saved = read_model(data)
    assert (saved.stream, saved.pixel_size_nm) == ("a-stream", 0.01)
    image = np.random.default_rng(0).poisson(30, (192, 192)).astype(np.uint16)
    for model in (learner.model, saved.model):
        assert isinstance(analyse(Frame(image, "b"), model, SETTINGS), Surveyed)
    assert [e.name for e in saved.model.classes] == [e.name for e in learner.model.classes]


def no_name(saved, arrays):
    fields_of_model(saved)["classes"]["tuple"][0]["fields"]["name"] = "\n"


def no_version(saved, arrays):
    fields_of_model(saved)["version"] = "seventeen"


def twice(saved, arrays):
    classes = fields_of_model(saved)["classes"]["tuple"]
    classes[-1]["fields"]["class_id"] = classes[0]["fields"]["class_id"]


def no_classes(saved, arrays):
    fields_of_model(saved)["classes"]["tuple"] = []


def no_lattice(saved, arrays):
    fields_of_model(saved)["lattice"] = None


def words_for_numbers(saved, arrays):
    name = fields_of_model(saved)["sublattices"]["tuple"][0]["fields"]["whitening"]["array"]
    arrays[name] = np.array(["a", "b"])


def another_shape(saved, arrays):
    name = fields_of_model(saved)["sublattices"]["tuple"][0]["fields"]["filter"]["fields"]["weights"]["array"]
    arrays[name] = np.zeros(3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_name, "name of class"),
        (no_version, "model.model.version: a str, expected a whole number"),
        (twice, "numbered differently"),
        (no_classes, "expected 1 to"),
        (no_lattice, "lattice: a NoneType, expected Lattice"),
        (words_for_numbers, "whitening: an array of"),
        (another_shape, "does not work"),
    ],
)
def test_what_is_no_model_that_works_is_refused_with_the_reason(data, change, said):
    with pytest.raises(FileError, match=said) as caught:
        read_model(changed(data, change))
    assert "\n" not in str(caught.value)


def test_a_file_that_says_more_than_it_holds_takes_no_memory(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {one.filename: archive.read(one) for one in archive.infolist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    members["a0.npy"] = header.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(FileError, match=r"a0.npy: an array of shape"):
        read_model(file.getvalue())


@given(where=st.floats(0, 1), byte=st.integers(0, 255), length=st.integers(0, 9), cut=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_damage_anywhere_is_a_file_error_or_harmless(data, where, byte, length, cut):
    at = int(where * len(data))
    damaged = data[:at] if cut else data[:at] + bytes([byte] * length) + data[at + length :]
    with contextlib.suppress(FileError):
        assert isinstance(read_model(damaged, trial=False), SavedModel)


def test_show_and_diff_say_what_a_model_holds_and_where_two_differ(learner, data, tmp_path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    first.write_bytes(data)
    renamed = Learner(SETTINGS)
    renamed.start_from(learner.model)
    renamed.rename(renamed.model.classes[0].class_id, "what I call it")
    second.write_bytes(write_model(renamed.model, "a-stream", 0.01))
    run = CliRunner().invoke
    shown = run(build("model"), ["model", "show", str(first)])
    assert shown.exit_code == 0
    assert all(entry.name in shown.output for entry in learner.model.classes)
    about = json.loads(run(build("model"), ["model", "show", "--json", str(first)]).output)
    assert about["lattice_vectors_px"] == pytest.approx([12, 12], abs=0.1)
    assert run(build("model"), ["model", "diff", str(first), str(first)]).output == "the same\n"
    differ = run(build("model"), ["model", "diff", str(first), str(second)])
    assert differ.exit_code == 1
    assert f"name {learner.model.classes[0].name} → what I call it" in differ.output
    (tmp_path / "c.npz").write_bytes(b"no model")
    refused = run(build("model"), ["model", "show", str(tmp_path / "c.npz")])
    assert isinstance(refused.exception, FileError)


KEYS = {"read_key": "read-me", "control_key": "control-me"}
READ, CONTROL = ({"Authorization": f"Bearer {key}"} for key in KEYS.values())


def test_a_model_is_saved_and_loaded_over_http(learner, data, tmp_path):
    with running(tmp_path, learner=copy.deepcopy(learner), analyse=analyse, serve=KEYS) as live:
        got = live.http.get("/v1/model/file", headers=READ)
        assert got.status_code == 200
        assert read_model(got.content).stream == live.engine.log.stream
        assert live.http.put("/v1/model/file", content=data).status_code == 401
        assert live.http.put("/v1/model/file", content=data, headers=READ).status_code == 403
        refused = live.http.put("/v1/model/file", content=b"no model", headers=CONTROL)
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith("nothing was changed: ")
        client = Client(live.url, "control-me")
        version = learner.model.version
        own = client.load_model(got.content)
        assert [one.class_id for one in own.classes] == [one.class_id_in_file for one in own.classes]
        assert own.model_version > version
        foreign = client.load_model(data)
        known = {entry.class_id for entry in learner.model.classes}
        assert known.isdisjoint(one.class_id for one in foreign.classes)
        assert [one.class_id for one in client.classes()] == [one.class_id for one in foreign.classes]
        told = live.http.get("/v1/events", headers=READ, params={"types": "model.updated"}).json()["events"]
        assert [event["data"]["reason"] for event in told] == ["a model was loaded"] * 2


def test_a_model_that_is_too_large_is_not_read(tmp_path):
    with running(tmp_path) as live:
        address = urlsplit(live.url)
        head = (
            f"PUT /v1/model/file HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {65 * 2**20}\r\n\r\n"
        )
        with socket.create_connection((address.hostname, address.port)) as sender:
            sender.settimeout(PATIENCE_S)
            sender.sendall(head.encode())
            assert b" 413 " in sender.recv(200)
        assert live.http.get("/v1/model/file").status_code == 404


def test_a_service_starts_from_a_file_once_and_goes_on_with_what_it_learnt_since(learner, data, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(data)

    def started():
        given = {"analysis": {"model": path}}
        return running(tmp_path / "data", learner=Learner(SETTINGS), analyse=analyse, **given)

    with started() as live:
        (first, *_) = live.engine.state.catalogue
        assert [e.name for e in live.engine.state.catalogue] == [e.name for e in learner.model.classes]
        live.engine.edit(first.class_id, ClassPatch(name="what I call it"))
    with started() as live:
        assert live.engine.state.catalogue[0].name == "what I call it"
    path.write_bytes(write_model(learner.model))
    with started() as live:
        assert live.engine.state.catalogue[0].name != "what I call it"
    path.write_bytes(b"no model")
    with pytest.raises(ConfigurationError, match=r"model\.npz"), started():
        pass
