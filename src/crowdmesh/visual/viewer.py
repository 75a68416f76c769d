"""Scenes to look at from all sides: a live page in the browser, or one HTML file that needs nothing else."""

from __future__ import annotations

import contextlib
import io
import socket
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from crowdmesh._files import atomic_path
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import posed_vertices, require_same_people

if TYPE_CHECKING:
    import viser

    from crowdmesh.visual._viewer_page import Answer, Page

HOST = "127.0.0.1"
"""Only this machine can open a live page unless told otherwise: photographs of people are private."""


@dataclass(frozen=True, eq=False)
class ViewerScene:
    """One photograph to look at.

    Attributes:
        name: what it is called on the page.
        scene: its people, with vertices; its image, if it has one, is shown on the camera.
        before: the same people before they were placed together; ``None``: there is no such step to show.
        stature_std_m, depth_std_m: (K,) spreads of stature and depth for the labels (NaN: unknown); ``None``: nobody's
            is known.

    Raises:
        InputError: no name, people without vertices, other people in ``before``, or spreads of another number of
            people.
    """

    name: str
    scene: Scene
    before: Scene | None = None
    stature_std_m: Float[np.ndarray, " K"] | None = None
    depth_std_m: Float[np.ndarray, " K"] | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("a scene to view needs a name")
        posed_vertices(self.scene)
        if self.before is not None:
            require_same_people([self.scene, self.before])
            posed_vertices(self.before)
        for what in ("stature_std_m", "depth_std_m"):
            spread = getattr(self, what)
            if spread is not None and np.shape(spread) != (len(self.scene.people),):
                raise InputError(
                    f"{what} of {self.name} must hold one number per person ({len(self.scene.people)}), "
                    f"got shape {np.shape(spread)}"
                )


class Viewer:
    """A live page; it stays until :meth:`stop`, the end of a ``with`` block, or the end of the program."""

    def __init__(self, server: viser.ViserServer, page: Page) -> None:
        self._server, self._page, self._scene = server, page, 0
        for element, _ in page.controls:
            (element.on_click if _clicks(element) else element.on_update)(self._react)

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        return f"http://{self._server.get_host()}:{self._server.get_port()}"

    def wait(self) -> None:
        """Return when the user interrupts the program (Ctrl+C)."""
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600.0)

    def stop(self) -> None:
        """Close the page and free its port."""
        _stop(self._server)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _react(self, event: Any) -> None:
        """Do what the page says of the element that changed. What shows is shared, where to look from is not."""
        answers = next(answers for element, answers in self._page.controls if element is event.target)
        answer: Answer = answers[True if _clicks(event.target) else event.target.value]
        with self._server.atomic():
            for handle, visible in answer.visible:
                handle.visible = visible
        if answer.scene is not None:
            self._scene = answer.scene
        if answer.view is not None:
            view = self._page.views[self._scene][answer.view]
            clients = [event.client] if answer.scene is None else list(self._server.get_clients().values())
            for client in clients:
                if client is not None:
                    client.camera.position = view.position  # moves the point looked at as well
                    client.camera.look_at = view.look_at


def serve(scenes: Sequence[ViewerScene], port: int = 8080, host: str = HOST, open_browser: bool = False) -> Viewer:
    """Show scenes on a live page: photo on its camera, people, ground, labels, and a panel to switch them.

    Args:
        port: of the page; 0: any free one (see ``Viewer.url``).
        host: address to listen on; the default is for this machine only, ``0.0.0.0`` for the whole network.
        open_browser: whether to open the page in the user's browser.

    Raises:
        InputError: no scenes, viser is not installed, or the port is taken.
    """
    _check(scenes)
    if not 0 <= port <= 65535:
        raise InputError(f"a port is a number from 0 to 65535, got {port}")
    _check_free(host, port)
    server = _server(host, port)
    try:
        if port not in (0, server.get_port()):
            raise _taken(host, port)
        from crowdmesh.visual._viewer_page import build

        viewer = Viewer(server, build(server, scenes))
    except BaseException:
        _stop(server)
        raise
    if open_browser:
        webbrowser.open(viewer.url)
    return viewer


def write_html(scenes: Sequence[ViewerScene], path: str | Path) -> None:
    """Write the page as one HTML file, with the same panel: it opens anywhere and asks no network for anything; atomic.

    Raises:
        InputError: no scenes, viser is not installed, a wrong suffix, or a folder that cannot be written.
    """
    path = Path(path)
    _check(scenes)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"a page is saved as .html, got {path.name}")
    server = _server(HOST, 0)
    try:
        from crowdmesh.visual._viewer_file import page_html
        from crowdmesh.visual._viewer_page import build

        text = page_html(server, build(server, scenes), " · ".join(scene.name for scene in scenes[:3]))
    finally:
        _stop(server)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _check(scenes: Sequence[ViewerScene]) -> None:
    if not scenes:
        raise InputError("there is no scene to view; name at least one")


def _server(host: str, port: int) -> viser.ViserServer:
    try:
        import viser
    except ImportError as error:
        raise InputError("the viewer needs viser, which is not installed: pip install 'crowdmesh[view]'") from error
    with _unannounced():
        return viser.ViserServer(host, port, verbose=False)


def _stop(server: viser.ViserServer) -> None:
    with _unannounced():
        server.stop()


def _unannounced() -> contextlib.redirect_stdout[io.StringIO]:
    """Keep to itself what viser prints when a server starts and stops."""
    return contextlib.redirect_stdout(io.StringIO())


def _check_free(host: str, port: int) -> None:
    """Raise InputError where the port is taken; viser would move on to the next one without a word."""
    if port == 0:
        return
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise _taken(host, port) from error


def _taken(host: str, port: int) -> InputError:
    return InputError(f"port {port} of {host} cannot be opened, another program may use it; choose another with --port")


def _clicks(element: Any) -> bool:
    """Whether a panel element is clicked instead of set."""
    return hasattr(element, "on_click")
