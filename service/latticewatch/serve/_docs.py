"""``/docs``: the resources as a page, written from the OpenAPI description and complete in itself."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font-family:ui-monospace,monospace;font-size:.92em}
section{border-top:1px solid #8886;padding:.4rem 0 .8rem}
b{display:inline-block;min-width:4.2rem}
table{border-collapse:collapse;margin:.4rem 0}
td,th{text-align:left;vertical-align:top;padding:.1rem 1.2rem .1rem 0}
summary{cursor:pointer}
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CONTENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Every resource with its parameters and answers."""
    return HTMLResponse(page_of(request.app.openapi()), headers={"Content-Security-Policy": CONTENT_POLICY})


def page_of(description: dict[str, Any]) -> str:
    """The page of an OpenAPI description."""
    info = description["info"]
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(_schema(name, schema) for name, schema in description["components"]["schemas"].items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])} "
        'Machine-readable: <a href="openapi.json">openapi.json</a>.</p>'
        "<p>Websockets, not described below: <code>/v1/live</code> and <code>/v1/events/ws</code>.</p>"
        f"<h2>Resources</h2>{operations}<h2>Messages</h2>{schemas}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}"
        f"<td><code>{escape(_type_of(one['schema']))}</code><td>{escape(one.get('description', ''))}"
        for one in operation.get("parameters", ())
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    takes = f"<p>Body: <code>{escape(_type_of(body))}</code></p>" if body else ""
    answers = ", ".join(_answer(status, answer) for status, answer in operation["responses"].items())
    text = "".join(f"<p>{escape(part)}</p>" for part in operation.get("description", "").split("\n\n"))
    table = f"<table>{rows}</table>" if rows else ""
    return (
        f"<section><h3><b>{method.upper()}</b> <code>{escape(path)}</code></h3>{text}{table}{takes}"
        f"<p>Answers: {answers}</p></section>"
    )


def _answer(status: str, answer: dict[str, Any]) -> str:
    content = answer.get("content", {})
    kinds = [_type_of(kind.get("schema", {})) or name for name, kind in content.items()]
    return f"{escape(status)} <code>{escape(', '.join(kinds) or 'no body')}</code>"


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code><td><code>{escape(_type_of(one))}</code>"
        f"<td>{escape(one.get('description', ''))}"
        for field, one in schema.get("properties", {}).items()
    )
    text = escape(schema.get("description", "").split("\n\n")[0])
    return (
        f"<details><summary><code>{escape(name)}</code></summary><p>{text}</p><table>{rows}</table></details>"
    )


def _type_of(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type_of(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"[{_type_of(schema.get('items', {}))}]"
    return schema.get("type", "")
