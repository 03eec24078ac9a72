"""Frames out of the acquisition computer, to a service.

This file alone, numpy and pyzmq are enough, so it may be copied there.

>>> with Publisher("tcp://127.0.0.1:5555") as publisher:      # doctest: +SKIP
...     for image in acquire():
...         publisher.publish(image, pixel_size_nm=0.0106)
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import zlib
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

# Frames that wait for a subscriber that is slow; more would be old before they are seen.
HIGH_WATER_MARK = 8
FORMATS = "uif"


class PublisherError(Exception):
    """A frame cannot be sent: what it is, and what to do about it."""


class Publisher:
    """Sends frames of one microscope as Latticewatch reads them, numbered and stamped.

    Parameters
    ----------
    address : str
        Where to listen, ``tcp://127.0.0.1:5555``. Others can reach it at ``tcp://0.0.0.0:5555``: without encryption, so
        in a network that is yours.
    push : bool
        Hold this program back instead of dropping frames when the service is slow; it then needs ``--pull --lossless``.
    connect : bool
        Connect to a service that listens (``--bind-source``) instead of listening here.
    series_id : str, optional
        Name of the first series; by default the date and time.
    detector : str, optional
        Said with every frame.
    compress : bool
        Compress frames with zlib; worth it below 1 Gbit/s.
    timeout_s : float
        With ``push``: how long to wait for a slow service before `publish` raises.
    curve_key : str or path, optional
        Key pair of this program, ``NAME.key_secret``: what is sent is encrypted (CURVE), and others get nothing.
    curve_peers : list of str or path, optional
        Public keys, ``NAME.key``, of the services that may listen; of one alone with ``connect``.

    Raises
    ------
    PublisherError
        The address cannot be used, or pyzmq is not installed.
    """

    def __init__(
        self,
        address: str = "tcp://127.0.0.1:5555",
        *,
        push: bool = False,
        connect: bool = False,
        series_id: str | None = None,
        detector: str | None = None,
        compress: bool = False,
        timeout_s: float = 30.0,
        curve_key: Any = None,
        curve_peers: Sequence[Any] = (),
    ) -> None:
        try:
            import zmq
        except ModuleNotFoundError as error:
            raise PublisherError("pyzmq is not installed here; pip install pyzmq") from error
        self._zmq = zmq
        self._context = zmq.Context()
        # XPUB is a PUB that hears of its subscribers.
        self._socket = self._context.socket(zmq.PUSH if push else zmq.XPUB)
        self._socket.sndhwm = HIGH_WATER_MARK
        self._socket.linger = 1000
        self._socket.sndtimeo = int(1000 * timeout_s)
        # A service that lost its power says no goodbye.
        # One that learns reads nothing meanwhile, and what may lose nothing waits for it.
        self._socket.heartbeat_ivl = 10_000
        self._socket.heartbeat_timeout = 300_000 if push else 30_000
        self._push = push
        self._authenticator: Any = None
        try:
            if curve_key is not None or curve_peers:
                self._encrypt(curve_key, curve_peers, connect)
            if connect:
                self._socket.connect(address)
            else:
                self._socket.bind(address)
        except PublisherError:
            self.close()
            raise
        except zmq.ZMQError as error:
            self.close()
            raise PublisherError(
                f"{address}: {error}; expected tcp://HOST:PORT with a port that is free"
            ) from error
        self.address = address if connect else str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
        self._detector, self._compress = detector, compress
        self._series_id: str | None = None
        self._wanted_id = series_id
        self._frame = self._message = 0

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def newest(self) -> tuple[str, int]:
        """Series and number of the frame that was sent last; "" between series, -1 before the first."""
        return self._series_id or "", self._frame - 1

    def wait_for_subscriber(self, timeout_s: float = 30.0) -> bool:
        """Wait until a service listens, so that it misses nothing. With ``push`` it does not wait: `publish` does.

        Parameters
        ----------
        timeout_s : float
            Longest wait [s].

        Returns
        -------
        bool
            Whether one listens.
        """
        if self._push or not self._socket.poll(int(1000 * timeout_s)):
            return self._push
        self._socket.recv()
        return True

    def start(self, series_id: str | None = None, frames: int | None = None) -> None:
        """Begin a series: a new sample, field of view or scan; `publish` begins the first one by itself.

        Parameters
        ----------
        series_id : str, optional
            By default the date and time.
        frames : int, optional
            How many there will be, if that is known.
        """
        if self._series_id is not None:
            self.end()
        now = datetime.now(timezone.utc)  # noqa: UP017 - Python 3.10 and before may be what an acquisition computer has
        self._series_id = series_id or now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._frame = self._message = 0
        self._send({"htype": "header", "frames": frames})

    def publish(
        self, image: Any, *, partial: bool = False, scalars: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        """Send one frame.

        Parameters
        ----------
        image : array_like of shape (height, width)
            Integers or floating-point numbers.
        partial : bool
            It is still being scanned: shown, and not analysed. Send it again when it is whole.
        scalars : dict, optional
            What else was measured or set, such as ``{"temperature_K": 573.0}``.
        **fields
            Further fields of a frame's header: ``pixel_size_nm``, ``fov_nm``, ``stage_nm`` (x, y), ``rotation_deg``,
            ``dwell_us``, ``dose_e_per_a2``, ``timeStamp`` …

        Raises
        ------
        PublisherError
            It is no image, a field cannot be sent, or with ``push`` nobody took it in time.
        """
        array = np.asarray(image)
        if array.ndim != 2 or not array.size or array.dtype.kind not in FORMATS or array.dtype.itemsize > 8:
            raise PublisherError(
                f"image of shape {array.shape} and dtype {array.dtype}; "
                "expected two axes of integers or floats, up to 64 bits"
            )
        if self._series_id is None:
            self.start(self._wanted_id)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        header = {
            "htype": "array-1.0",
            "type": array.dtype.newbyteorder("=").name,
            "shape": array.shape,
            "frame": self._frame,
            "timeStamp": time.time(),
            "encoding": "zlib" if self._compress else "",
            "detector": self._detector,
            "scalars": None
            if scalars is None
            else {name: _plain(name, value) for name, value in scalars.items()},
            **{name: _plain(name, value) for name, value in fields.items()},
        }
        if partial:
            header["partial"] = True
        buffer = array.data.cast("B")
        self._send(header, zlib.compress(buffer, 1) if self._compress else buffer, counts=not partial)
        self._frame += not partial

    def end(self) -> None:
        """End the series; the next frame begins another one."""
        if self._series_id is not None:
            self._send({"htype": "series_end", "frames": self._frame})
            self._series_id = self._wanted_id = None

    def close(self) -> None:
        """End the series, and close the socket when what was sent is gone, or after a second."""
        if not self._socket.closed:
            if getattr(self, "_series_id", None) is not None:
                # nobody may be there to hear it
                self._socket.sndtimeo = min(self._socket.sndtimeo, 1000)
                with contextlib.suppress(PublisherError):
                    self.end()
            self._socket.close()
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.term()

    def _encrypt(self, key: Any, peers: Sequence[Any], connect: bool) -> None:
        from zmq.auth import load_certificate
        from zmq.auth.thread import ThreadAuthenticator

        if key is None or not peers or (connect and len(peers) > 1):
            raise PublisherError(
                "encryption needs curve_key, a file NAME.key_secret, and curve_peers, files NAME.key of the services, "
                "one with connect; `latticewatch keys curve` makes them"
            )
        known = []
        try:
            public, secret = load_certificate(key)
            known += [load_certificate(peer)[0] for peer in peers]
        except (OSError, ValueError) as error:
            raise PublisherError(f"no key can be read: {error}") from error
        if secret is None:
            raise PublisherError(f"{key} holds no secret key; give the file NAME.key_secret")
        self._socket.curve_publickey, self._socket.curve_secretkey = public, secret
        if connect:
            self._socket.curve_serverkey = known[0]
            return

        class Known:
            def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - called by pyzmq with both
                return key in known

        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.configure_curve_callback("latticewatch", Known())
        self._authenticator.start()
        self._socket.curve_server, self._socket.zap_domain = True, b"latticewatch"

    def _send(self, header: dict[str, Any], *buffers: Any, counts: bool = True) -> None:
        header |= {"series_id": self._series_id, "msg_number": self._message}
        text = json.dumps(
            {name: value for name, value in header.items() if value is not None}, allow_nan=False
        )
        try:
            # Copied, since the caller may write the next frame into the same array.
            self._socket.send_multipart([text.encode(), *buffers], copy=True)
        except self._zmq.Again as error:
            raise PublisherError(
                "nobody has taken the frame in time; is the service running with --pull?"
            ) from error
        self._message += counts


def _plain(name: str, value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(name, one) for one in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise PublisherError(
        f"{name} = {value!r} cannot be sent; expected a finite number, a short text, or a list of them"
    )
