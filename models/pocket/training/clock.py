"""Time spent training, as a share of a budget."""

import time


class Clock:
    """Counts the steps of a training run against a budget in minutes.

    A step that takes far longer than its neighbours means that the process was stopped or the
    machine slept; such a step counts as four ordinary ones, so a pause does not eat the budget.
    """

    def __init__(self, minutes: float) -> None:
        self.budget = 60.0 * minutes
        self.spent = 0.0
        self._usual: float | None = None
        self._last = time.monotonic()

    def tick(self) -> None:
        """Count the step that just ended."""
        now = time.monotonic()
        step, self._last = now - self._last, now
        if self._usual is not None:
            step = min(step, 4.0 * self._usual)
        self._usual = step if self._usual is None else 0.9 * self._usual + 0.1 * step
        self.spent += step

    @property
    def share(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        return min(1.0, self.spent / self.budget)
