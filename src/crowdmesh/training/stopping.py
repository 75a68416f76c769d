"""Being told to stop: the step is finished, the state saved, and only then the run ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopSignals:
    """Within the block SIGTERM and SIGINT are only noted; a second one ends the program at once, like Ctrl-C.

    Outside of the main thread, where Python hears no signals, nothing is changed.

    Attributes:
        heard: number of the signal that came; ``None``: none.
    """

    def __init__(self) -> None:
        self.heard: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # A handler that was not set from Python cannot be set again; the default one takes its place.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.heard is not None:
            raise KeyboardInterrupt
        self.heard = number
