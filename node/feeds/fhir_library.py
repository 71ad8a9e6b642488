"""The pages of a FHIR feed that never change while it runs: metadata, SMART's configuration, OpenAPI as JSON and as a page."""

import hashlib
import json
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from typing import Any

from hl7.fhir_answers import encode
from hl7.fhir_capability import Endpoint, capability_statement, smart_configuration
from hl7.fhir_errors import UnknownPath
from hl7.fhir_openapi import openapi
from hl7.fhir_request import Wanted, What
from node.config.fhir import Fhir
from node.feeds.fhir_answer import MEDIA, Answer
from node.feeds.http_access import SUPPORTED_SCOPES, Access
from node.feeds.http_call import Call

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}"
    "pre{background:#f2f2f2;padding:1rem;overflow:auto}code{font-size:.95em}td,th{text-align:start;padding:.2rem .8rem .2rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#111}pre{background:#222}a{color:#8cf}}"
)


class Library:
    """Made at the start, served as they are."""

    def __init__(self, feed: Fhir, *, base: str, access: Access) -> None:
        self._has_clients = access.has_clients
        endpoint = Endpoint(
            base=base, version=version("wasl-node"), date=datetime.now(UTC).date().isoformat(), strictness=feed.how_strict, types=feed.types,
            body_bytes_max=feed.body_bytes_max, token_url=f"{base}/auth/token" if access.has_clients else "", needs_token=not access.is_open,
            scopes=SUPPORTED_SCOPES,
        )  # fmt: skip
        statement, document = capability_statement(endpoint), openapi(endpoint)
        self._statements = {form: encode(statement, form) for form in MEDIA}
        self._pretty = encode(statement, "json", pretty=True)
        self._openapi = json.dumps(document, ensure_ascii=False).encode()
        self._page = _page(document).encode()
        self._smart = json.dumps(smart_configuration(endpoint)).encode()

    def page(self, what: What, call: Call, want: Wanted) -> Answer:
        """One of them. Raises UnknownPath where there is none."""
        if what is What.CAPABILITIES:
            pretty = want.pretty and want.form == "json"
            return _fixed(call, MEDIA[want.form], self._pretty if pretty else self._statements[want.form])
        if what is What.OPENAPI:
            return _fixed(call, b"application/json", self._openapi)
        if what is What.PAGE:
            return _fixed(
                call,
                b"text/html; charset=utf-8",
                self._page,
                (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
            )
        if not self._has_clients:
            raise UnknownPath
        return _fixed(call, b"application/json", self._smart)


def _fixed(call: Call, media: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    """With a tag of its content, so that a client which has it is told so (RFC 9110 13.1.2)."""
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
    told = ((b"content-type", media), (b"etag", tag.encode()), (b"vary", b"accept"), *headers)
    known = {each.strip() for each in call.headers.get("if-none-match", "").split(",")}
    if tag in known:
        return Answer(304, told)
    return Answer(200, told, body)


# -- OpenAPI as a page: no script, nothing from elsewhere -------------------------------------------------------------------------


def _page(document: dict[str, Any]) -> str:
    info, base = document["info"], document["servers"][0]["url"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(info['title'])}</title>",
        f"<style>{STYLE}</style><h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>",
        f"<p>Base address: <code>{escape(base)}</code>. <a href=openapi.json>OpenAPI document</a>, <a href=metadata>CapabilityStatement</a>.</p>",
    ]
    for path, methods in document["paths"].items():
        for method in ("get", "post", "put"):
            if method in methods:
                parts += _operation(base, path, method, methods[method], methods.get("parameters", []))
    return "".join(parts)


def _operation(base: str, path: str, method: str, found: dict[str, Any], shared: list[dict[str, Any]]) -> list[str]:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(found['summary'])}.</p>"]
    parameters = [*shared, *found.get("parameters", [])]
    if parameters:
        rows = "".join(
            f"<tr><th><code>{escape(each['name'])}</code><td>{escape(each['description'])}" for each in parameters
        )
        parts.append(f"<table>{rows}</table>")
    content = found.get("requestBody", {}).get("content", {})
    if content:
        example = json.dumps(content["application/fhir+json"]["example"], ensure_ascii=False, indent=2)
        address = path
        for each in shared:
            address = address.replace("{" + each["name"] + "}", each["example"])
        line = f"curl -X {method.upper()} '{base}{'' if address == '/' else address}' -H 'Content-Type: application/fhir+json' -d @-"
        parts.append(f"<pre>{escape(line)} &lt;&lt;'END'\n{escape(example)}\nEND</pre>")
    rows = "".join(f"<tr><th>{code}<td>{escape(each['description'])}" for code, each in found["responses"].items())
    return [*parts, f"<table>{rows}</table>"]
