"""HTTPS and WSS with a certificate, and nothing else; a certificate that does not work stops the start."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import httpx
import pytest
from websockets.sync.client import connect

from _fake_learner import FakeLearner, fake_analyse
from _running import PATIENCE_S, settings_of
from latticewatch.config import Settings
from latticewatch.errors import ConfigurationError
from latticewatch.execute import Engine
from latticewatch.serve import Service
from latticewatch.serve._tls import tls_files
from latticewatch_client import Client


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A certificate for 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_with_a_certificate_the_service_speaks_tls_alone(tmp_path, pem, monkeypatch):
    cert, key = pem
    settings = settings_of(tmp_path, serve={"tls_cert": cert, "tls_key": key})
    engine = Engine(settings, learner=FakeLearner(), analyse=fake_analyse)
    trusting = ssl.create_default_context(cafile=str(cert))
    with Service(settings, engine) as service:
        assert service.url.startswith("https://")
        assert httpx.get(f"{service.url}/healthz", verify=trusting, timeout=PATIENCE_S).status_code == 200
        with connect(
            service.url.replace("https", "wss") + "/v1/live", ssl=trusting, open_timeout=PATIENCE_S
        ) as live:
            assert live.ping().wait(PATIENCE_S)
        with pytest.raises(httpx.HTTPError):
            httpx.get(service.url.replace("https", "http") + "/healthz", timeout=PATIENCE_S)
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{service.url}/healthz", timeout=PATIENCE_S)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        with Client(service.url) as client:
            assert client.status().stream


def test_what_is_no_certificate_stops_the_start(tmp_path, pem):
    cert, key = pem
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="belong together"):
        tls_files(Settings(serve={"tls_cert": cert}).serve)
    for one, other in [(tmp_path / "none.pem", key), (cert, tmp_path / "missing.pem"), (key, cert)]:
        with pytest.raises(ConfigurationError, match=r"serve\.tls_cert"):
            tls_files(Settings(serve={"tls_cert": one, "tls_key": other}).serve)
