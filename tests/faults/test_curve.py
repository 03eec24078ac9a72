"""Frames over ZeroMQ that only those get, and only those send, whose keys are known."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from _running import PATIENCE_S
from latticewatch.cli import main
from latticewatch.config import IngestSettings, load_settings
from latticewatch.errors import ConfigurationError
from latticewatch.ingest import Frame, Receiver, _receiver, examine
from latticewatch_client import Publisher, PublisherError

IMAGE = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
# How long nothing must come for what must not come.
QUIET_S = 0.5


@pytest.fixture
def keys(tmp_path, capsys):
    """Pairs of a service, of a microscope, and of a stranger, as the command writes them."""
    for name in ("service", "microscope", "stranger"):
        with pytest.raises(SystemExit) as ended:
            main(["keys", "curve", "--out", str(tmp_path / name)])
        assert not ended.value.code
        printed = capsys.readouterr().out
        assert f"{name}.key_secret" in printed
        assert "secret-key" not in printed
    return tmp_path


def settings_of(keys, **fields) -> IngestSettings:
    own = {"sources": ("tcp://127.0.0.1:0",), "curve_key": keys / "service.key_secret"}
    return IngestSettings(**own | {"curve_peers": keys / "microscope.key"} | fields)


def first_frame(receiver: Receiver, seconds: float = PATIENCE_S) -> Frame | None:
    while (item := receiver.get(seconds)) is not None:
        if isinstance(item, Frame):
            receiver.done(item)
            return item
    return None


def pushing(keys, name: str | None, endpoint: str) -> Publisher:
    if name is None:
        return Publisher(endpoint, push=True, connect=True)
    pair = {"curve_key": keys / f"{name}.key_secret", "curve_peers": [keys / "service.key"]}
    return Publisher(endpoint, push=True, connect=True, **pair)


def test_the_secret_key_is_for_its_owner_and_no_file_is_written_over(keys, capsys):
    assert stat.S_IMODE((keys / "service.key_secret").stat().st_mode) == 0o600
    assert "secret" not in (keys / "service.key").read_text()
    before = (keys / "service.key").read_text()
    with pytest.raises(SystemExit) as ended:
        main(["keys", "curve", "--out", str(keys / "service")])
    assert ended.value.code == 2
    assert "there already" in capsys.readouterr().err
    assert (keys / "service.key").read_text() == before


def test_a_bound_service_takes_frames_of_known_keys_alone(keys):
    settings = settings_of(keys, socket="pull", bind=True, mode="lossless")
    with Receiver(settings) as receiver:
        (endpoint,) = receiver.endpoints
        for name in ("stranger", None):
            with pushing(keys, name, endpoint) as sender:
                sender.publish(IMAGE)
                assert first_frame(receiver, QUIET_S) is None
        with pushing(keys, "microscope", endpoint) as sender:
            sender.publish(IMAGE)
            frame = first_frame(receiver)
        assert frame is not None
        np.testing.assert_array_equal(frame.image, IMAGE)
        assert receiver.counts().received == 1


def test_a_key_that_is_added_or_taken_away_counts_from_the_next_connection_on(keys):
    known = keys / "known"
    known.mkdir()
    (known / "microscope.key").write_bytes((keys / "microscope.key").read_bytes())
    settings = settings_of(keys, socket="pull", bind=True, mode="lossless", curve_peers=known)
    with Receiver(settings) as receiver:
        (endpoint,) = receiver.endpoints
        (known / "stranger.key").write_bytes((keys / "stranger.key").read_bytes())
        (known / "microscope.key").unlink()
        with pushing(keys, "stranger", endpoint) as sender:
            sender.publish(IMAGE)
            assert first_frame(receiver) is not None
        with pushing(keys, "microscope", endpoint) as sender:
            sender.publish(IMAGE)
            while (item := receiver.get(QUIET_S)) is not None:
                assert not isinstance(item, Frame)


def test_a_publisher_is_heard_by_known_keys_alone(keys):
    peers = [keys / "service.key"]
    pair = {"curve_key": keys / "microscope.key_secret", "curve_peers": peers}
    with Publisher("tcp://127.0.0.1:0", **pair) as publisher:
        stranger = settings_of(keys, sources=(publisher.address,), curve_key=keys / "stranger.key_secret")
        without = IngestSettings(sources=(publisher.address,))
        with Receiver(stranger) as not_heard, Receiver(without) as neither:
            assert not publisher.wait_for_subscriber(QUIET_S)
            with Receiver(settings_of(keys, sources=(publisher.address,))) as receiver:
                assert publisher.wait_for_subscriber(PATIENCE_S)
                publisher.publish(IMAGE)
                frame = first_frame(receiver)
            assert frame is not None
            np.testing.assert_array_equal(frame.image, IMAGE)
            assert first_frame(not_heard, QUIET_S) is first_frame(neither, 0.01) is None


def test_who_encrypts_and_who_does_not_is_said(keys, monkeypatch):
    monkeypatch.setattr(_receiver, "SILENT_AFTER_S", 0.1)
    pair = {"curve_key": keys / "microscope.key_secret", "curve_peers": [keys / "service.key"]}
    with Publisher("tcp://127.0.0.1:0", **pair) as publisher:
        (note,) = examine(publisher.address, 0.2, IngestSettings()).notes
        assert "encrypts (CURVE), and this service does not" in note.text
        with Receiver(IngestSettings(sources=(publisher.address,))) as receiver:
            note = said_by(receiver)
        assert "encrypts (CURVE), and this service does not" in note.text
    with Publisher("tcp://127.0.0.1:0") as publisher:
        with Receiver(settings_of(keys, sources=(publisher.address,))) as receiver:
            note = said_by(receiver)
        assert "this service encrypts (CURVE), and the XPUB there does not" in note.text


def said_by(receiver: Receiver):
    for _ in range(200):
        if notes := receiver.notes():
            return notes[0]
        receiver.get(0.02)
    raise AssertionError("nothing is said")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"curve_key": "service.key"}, "holds no secret key"),
        ({"curve_key": "nothing"}, "no key can be read"),
        ({"curve_peers": "empty"}, r"holds no file \*\.key"),
        ({"curve_peers": "damaged"}, "no key of 40 characters"),
        ({"curve_peers": "."}, "holds 3 keys; a service that connects needs the one"),
    ],
)
def test_keys_that_cannot_work_stop_the_start_and_are_not_repeated(keys, fields, said):
    (keys / "empty").mkdir()
    (keys / "damaged").write_text('public-key = "my-own-secret"')
    settings = settings_of(keys, **{name: keys / file for name, file in fields.items()})
    with pytest.raises(ConfigurationError, match=said) as error:
        Receiver(settings).start()
    assert "my-own-secret" not in str(error.value)


def test_one_key_without_the_other_is_refused(keys):
    with pytest.raises(ConfigurationError, match="given together"):
        load_settings(None, ingest={"curve_key": keys / "service.key_secret"})
    with pytest.raises(PublisherError, match="curve_peers"):
        Publisher("tcp://127.0.0.1:0", curve_key=keys / "service.key_secret")
