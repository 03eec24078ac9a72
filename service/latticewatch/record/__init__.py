"""Events in, the same with sequence numbers out, readable from any cursor; and recordings of frames and results."""

from latticewatch.record._event_log import EventLog, LogPage
from latticewatch.record._logged import LoggedEvent
from latticewatch.record._recorder import Recorder, recorder_of

__all__ = ["EventLog", "LogPage", "LoggedEvent", "Recorder", "recorder_of"]
