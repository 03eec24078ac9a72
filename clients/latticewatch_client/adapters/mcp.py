"""What a service knows, for language models: a server of the Model Context Protocol that only reads (extra ``mcp``).

Run it with ``python -m latticewatch_client.adapters.mcp http://127.0.0.1:8765``; it speaks over standard input and
output. A key comes from ``LATTICEWATCH_KEY``: give it the read key.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from latticewatch.messages import Policy
from latticewatch_client._calls import DEFAULT_URL
from latticewatch_client._client import Client

MOST_EVENTS = 500
_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def server_of(client: Client) -> MCPServer:
    """A server with tools that read; none leases, annotates, renames or moves anything.

    Parameters
    ----------
    client : Client
        Of the service; a read key is enough.

    Returns
    -------
    MCPServer
        Not running yet.
    """
    server = MCPServer(
        "latticewatch",
        instructions="Atomic defects that a microscope sees, live. Everything here reads; nothing moves. "
        "Look at last_frame_age_s first: when it grows, positions are old.",
    )

    @server.tool(annotations=_READS)
    def status() -> dict[str, Any]:
        """State of the stream: phase, rate, age of the newest frame, ends of the event log, notes."""
        return client.status().model_dump(mode="json")

    @server.tool(annotations=_READS)
    def counts() -> dict[str, Any]:
        """Sites of the newest frame, by role and by class."""
        return client.counts().model_dump(mode="json")

    @server.tool(annotations=_READS)
    def classes() -> list[dict[str, Any]]:
        """Every class: its number, name, role, share, and the simulated class that it looks like."""
        return [one.model_dump(mode="json") for one in client.classes()]

    @server.tool(annotations=_READS)
    def events(after: str | None = None, types: list[str] | None = None, limit: int = 100) -> dict[str, Any]:
        """Events after a cursor (None: the oldest that is kept), oldest first, and the cursor for the next call.

        At most 500 at once. Types such as defect.appeared, or defect.* for a family.
        """
        most = max(1, min(limit, MOST_EVENTS))
        found, cursor = [], after
        for event in client.events(after, types, follow=False):
            found.append(event.model_dump(mode="json"))
            cursor = f"{event.stream}:{event.seq}"
            if len(found) == most:
                break
        return {"events": found, "cursor": cursor}

    @server.tool(annotations=_READS)
    def next_target(policy: Policy = "most-confident", classes: list[str] | None = None) -> dict[str, Any]:
        """Which defect could be looked at next: advice. Nothing is leased, and nothing moves."""
        found = client.targets(policy, 1, classes or ())
        best = found.targets[0].model_dump(mode="json") if found.targets else None
        return {"target": best, "free": found.n, "last_frame_age_s": found.last_frame_age_s}

    return server


def main() -> None:
    """Serve over standard input and output until that ends."""
    url = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_URL
    with Client(url, os.environ.get("LATTICEWATCH_KEY")) as client:
        server_of(client).run("stdio")


if __name__ == "__main__":
    main()
