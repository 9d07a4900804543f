"""DPM-Solver++ singlestep: 2S and 3S [Lu et al. 2022, algorithm 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .arrays import Array
from .dpm_multistep import DPMMultistep
from .preserving import PreservingScheduler, dpm_update
from .scheduler import Choices, Synonyms


@dataclass(kw_only=True, eq=False)
class DPMSinglestep(PreservingScheduler):
    """Groups of up to three steps, each of which goes out again from the group's first sample.

    `timesteps` lists all of them, so that n steps ask the model n times.
    """

    lower_order_final: bool = False
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    variance_type: str | None = None

    choices: ClassVar[Choices] = DPMMultistep.choices
    synonyms: ClassVar[Synonyms] = DPMMultistep.synonyms
    lacks: ClassVar[tuple[str, ...]] = (
        "timestep_spacing",
        "steps_offset",
        "rescale_betas_zero_snr",
        "sigma_min",
        "sigma_max",
    )

    def needs_noise(self, t: float) -> bool:
        return self.algorithm_type == "sde-dpmsolver++"

    def set_timesteps(self, num_inference_steps: int) -> None:
        super().set_timesteps(num_inference_steps)
        self._orders = self._planned(num_inference_steps)

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        x_0 = self._clean(model_output, sample, i)
        self._outputs = [x_0, *self._outputs[: self.solver_order - 1]]
        # A run that begins part-way may begin inside a group.
        order = min(self._orders[i], len(self._outputs))
        if order == 1:
            self._origin = sample
        return dpm_update(
            self._origin,
            self._derivatives(i, order),
            float(self.sigmas[i + 1 - order]),
            float(self.sigmas[i + 1]),
            midpoint=self.solver_type == "midpoint" and order == 2,
            noise=self._drawn(noise, t) if self.needs_noise(t) else None,
        )

    def _planned(self, n: int) -> list[int]:
        """The order of each step: 1, 2, .. solver_order again and again, cut short at the end."""
        full = list(range(1, self.solver_order + 1))
        orders = (full * n)[:n]
        complete = n % self.solver_order == 0
        if self.final_sigmas_type == "zero" or (self.lower_order_final and complete):
            orders[-1] = 1
        return orders

    def _derivatives(self, i: int, order: int) -> list[Array]:
        """x_0 and its derivatives by lambda / h at the group's first rung, by differences."""
        m, at = self._outputs, self._lambda
        if order == 1:
            return m[:1]
        start = at(i + 1 - order)
        h, h_0 = at(i + 1) - start, at(i) - start
        slope = (h / h_0) * (m[0] - m[order - 1])
        if order == 2 or self.solver_type == "midpoint":
            return [m[order - 1], slope]
        h_1 = at(i - 1) - start
        nearer = (h / h_1) * (m[1] - m[2])
        bend = (h / (h_0 - h_1)) * (slope - nearer)
        return [m[2], (h_0 * nearer - h_1 * slope) / (h_0 - h_1), 2 * bend]
