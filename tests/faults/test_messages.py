"""Messages of many parts: bounded in number and together, refused, and no harm to those that follow."""

from __future__ import annotations

import numpy as np
import pytest
import zmq

from _running import PATIENCE_S
from latticewatch.config import IngestSettings
from latticewatch.ingest import Frame, Receiver, SeriesStarted
from latticewatch.ingest._inlets import MAX_PARTS
from latticewatch.messages import encode_frame

# each part is within the limit of ZeroMQ, which is for parts
MESSAGES = {"parts": [b"1"] * (MAX_PARTS + 1), "size": [bytes(2**20)] * 3}


@pytest.mark.parametrize("reason", MESSAGES)
def test_a_message_is_bounded_in_all_its_parts_together(reason):
    settings = IngestSettings(
        sources=("tcp://127.0.0.1:0",), socket="pull", bind=True, mode="lossless", max_frame_mib=1
    )
    with zmq.Context() as context, Receiver(settings, context=context) as receiver:
        sender = context.socket(zmq.PUSH)
        sender.linger = 0
        sender.connect(receiver.endpoints[0])
        sender.send_multipart(MESSAGES[reason])
        sender.send_multipart(
            encode_frame(np.ones((32, 32), np.uint16), frame=7, series_id="A", msg_number=1)
        )
        assert isinstance(receiver.get(PATIENCE_S), SeriesStarted)
        frame = receiver.get(PATIENCE_S)
        assert isinstance(frame, Frame)
        assert frame.number == 7
        receiver.done(frame)
        assert receiver.counts().rejected == {reason: 1}
        sender.close()
