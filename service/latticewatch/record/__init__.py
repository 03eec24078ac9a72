"""Events in; the same events with sequence numbers out, readable from any cursor and across restarts."""

from latticewatch.record._event_log import EventLog, LogPage

__all__ = ["EventLog", "LogPage"]
