"""The viewer as one file: viser's client, the page's messages as data, and a script that stands in for the server.

viser can record a scene into a file itself, but such a recording has neither panel nor controls.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdmesh.visual._viewer_layout import View
from crowdmesh.visual._viewer_page import Page

if TYPE_CHECKING:
    import viser

# The page may use what it carries and nothing else: a browser refuses every request to a network.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob: data:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; connect-src data: blob:; worker-src blob: data:"
)


def page_html(server: viser.ViserServer, page: Page, title: str) -> str:
    """The page as HTML that needs no server and no network."""
    import viser

    client = (Path(viser.__file__).parent / "client" / "build" / "index.html").read_text(encoding="utf-8")
    script = resources.files("crowdmesh.visual").joinpath("_viewer_file.js").read_text(encoding="utf-8")
    data = base64.b64encode(_pack(server, page)).decode("ascii")
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />\n'
        f'<script id="crowdmesh-page" type="application/octet-stream">{data}</script>\n<script>{script}</script>\n'
    )
    start, end = client.split('<meta charset="utf-8" />', 1)
    return f'{start}<meta charset="utf-8" />\n{head}{end}'.replace(
        "<title>Viser</title>", f"<title>{html.escape(title)}</title>", 1
    )


def _pack(server: viser.ViserServer, page: Page) -> bytes:
    """Messages, answers and views for ``_viewer_file.js``, which says how they lie in the bytes."""
    from viser import _messages as told

    arrays = _Arrays()
    recorded = list(server._websock_server._broadcast_buffer.message_from_id.values())
    content = {
        "messages": [arrays.extract(message) for message in (*recorded, told.ReplayDoneMessage())],
        "controls": {
            element._impl.uuid: {
                _javascript(value): {
                    "messages": [_visibility(handle, visible) for handle, visible in answer.visible],
                    "scene": answer.scene,
                    "view": answer.view,
                }
                for value, answer in answers.items()
            }
            for element, answers in page.controls
        },
        "views": [{name: _look(view) for name, view in views.items()} for views in page.views],
    }
    return gzip.compress(arrays.after(content), 6, mtime=0)


class _Arrays:
    """Arrays and byte strings of messages, each kept once, beside what is plain enough for JSON."""

    def __init__(self) -> None:
        self._starts: dict[bytes, int] = {}
        self._size = 0

    def extract(self, message: Any) -> Any:
        """The message with ``{"__array": [start among the arrays, bytes, type]}`` in place of each array."""
        buffers: list[memoryview] = []
        return self._plain(message.as_serializable_dict(buffers), buffers)

    def _plain(self, value: Any, buffers: list[memoryview]) -> Any:
        if isinstance(value, dict):
            if "__binary_index" in value:
                return self._keep(bytes(buffers[value["__binary_index"]]), value["dtype"])
            return {str(key): self._plain(inner, buffers) for key, inner in value.items()}
        if isinstance(value, (bytes, memoryview)):
            return self._keep(bytes(value), "|u1")
        if isinstance(value, (list, tuple)):
            return [self._plain(inner, buffers) for inner in value]
        return value

    def _keep(self, data: bytes, kind: str) -> dict[str, Any]:
        if data not in self._starts:
            self._starts[data] = self._size
            self._size += len(_padded(data))
        return {"__array": [self._starts[data], len(data), kind]}

    def after(self, content: dict[str, Any]) -> bytes:
        """The length of the content as JSON in eight bytes, the JSON, the arrays."""
        text = json.dumps(content, allow_nan=False).encode()
        return b"".join((len(text).to_bytes(8, "little"), *map(_padded, (text, *self._starts))))


def _padded(data: bytes) -> bytes:
    """The bytes up to a multiple of eight."""
    return data + bytes(-len(data) % 8)


def _javascript(value: Any) -> str:
    """A panel element's value as JavaScript's ``String`` writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _visibility(handle: Any, visible: bool) -> dict[str, Any]:
    """The message that shows or hides a scene node or a panel element."""
    from viser import SceneNodeHandle
    from viser import _messages as told

    if isinstance(handle, SceneNodeHandle):
        return told.SetSceneNodeVisibilityMessage(handle.name, visible).as_serializable_dict()
    return told.GuiUpdateMessage(handle._impl.uuid, {"visible": visible}).as_serializable_dict()


def _look(view: View) -> list[dict[str, Any]]:
    from viser import _messages as told

    x, y, z = map(float, view.look_at)
    a, b, c = map(float, view.position)
    messages = (told.SetCameraLookAtMessage((x, y, z)), told.SetCameraPositionMessage((a, b, c)))
    return [message.as_serializable_dict() for message in messages]
