"""Keys at rest are hashes, and are exchanged while the service runs."""

from __future__ import annotations

import httpx
import pytest

from _running import running
from latticewatch.cli import main
from latticewatch.config import Settings
from latticewatch.errors import ConfigurationError
from latticewatch.serve import _keys
from latticewatch.serve._access import Access


def made(capsys, *arguments):
    """A key, and its line, as the command prints them."""
    with pytest.raises(SystemExit):
        main(["keys", *arguments])
    printed = capsys.readouterr()
    return printed.err.split()[-1], printed.out


def statuses(live, key):
    header = {"Authorization": f"Bearer {key}"}
    reads = httpx.get(f"{live.url}/v1/status", headers=header).status_code
    changes = httpx.patch(f"{live.url}/v1/classes/0", json={"name": "x"}, headers=header).status_code
    return reads, changes


def test_keys_are_exchanged_without_a_restart(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_keys, "LOOK_EVERY_S", 0.0)
    file = tmp_path / "keys"
    (reads, first), (changes, second) = made(capsys), made(capsys, "control", "--comment", "Ada")
    assert reads not in first
    assert second.startswith("control sha256:")
    assert second.endswith(" Ada\n")
    file.write_text(f"# who may\n\n{first}{second}")
    with running(tmp_path / "data", serve={"http": "0.0.0.0:0", "keys_file": file}) as live:
        assert statuses(live, "nothing") == (401, 401)
        assert statuses(live, first.split()[1]) == (401, 401)
        assert statuses(live, reads) == (200, 403)
        assert statuses(live, changes) == (200, 404)
        newer, third = made(capsys, "control")
        file.write_text(third)
        assert statuses(live, reads) == statuses(live, changes) == (401, 401)
        assert statuses(live, newer) == (200, 404)
        # damaged, or gone: nobody is let in or shut out by it
        for damage in (lambda: file.write_text("control open-sesame"), file.unlink):
            damage()
            assert statuses(live, newer) == (200, 404)
            assert statuses(live, "open-sesame") == (401, 401)


@pytest.mark.parametrize("text", ["", "# none\n", "control my-secret", "admin sha256:" + 64 * "0", "read"])
def test_a_file_that_holds_no_keys_stops_the_start_and_is_not_repeated(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="keys_file") as error:
        Access(Settings(serve={"keys_file": file}).serve)
    assert "my-secret" not in str(error.value)
