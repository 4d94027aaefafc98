"""What a TensorRT build shows while it runs, which takes minutes: a bar for each of its phases."""

from __future__ import annotations

from tqdm import tqdm


class BuildProgress:
    """The phases of a build that have begun and not ended, on standard error where that is a terminal.

    The builder calls from its own stack, where no exception may leave a callback: Ctrl-C is kept until the next step,
    which tells the builder to stop.

    Attributes:
        interrupted: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._bars: dict[str, tqdm[None]] = {}

    def start(self, phase: str, steps: int) -> None:
        """A phase of so many steps begins."""
        try:
            # disable=None: only on a terminal.
            bar = tqdm(total=steps, desc=phase, position=len(self._bars), leave=False, disable=None)
            self._bars[phase] = bar
        except KeyboardInterrupt:
            self.interrupted = True

    def step(self, phase: str, step: int) -> bool:
        """Step number `step` of a phase, counted from 0, is done; returns whether to go on."""
        try:
            if phase in self._bars:
                self._bars[phase].update(step + 1 - self._bars[phase].n)
        except KeyboardInterrupt:
            self.interrupted = True
        return not self.interrupted

    def finish(self, phase: str) -> None:
        """A phase has ended, perhaps before its last step."""
        try:
            if phase in self._bars:
                self._bars.pop(phase).close()
        except KeyboardInterrupt:
            self.interrupted = True
