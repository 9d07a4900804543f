"""The planner: a call checked against an opened model, and made a plan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..denoise.control import Controls
from ..denoise.feature_cache import Caching
from ..families.family import Family
from ..images.enlarging import Enlargement
from ..images.fitting import Size as Pixels
from ..images.original import Original
from ..model.controlnet import ControlNet
from ..model.safety import chosen
from ..output import PipelineOutput
from ..plan import Plan
from ..request import Request
from ..text.known_words import KnownWords
from . import enlarging
from .draft import Draft
from .latents import start_noise
from .pictures import original_of, with_files_read
from .prompts import read_prompts
from .settings import decoder_of, settled
from .steps import first_step, span_of
from .tiles import denoiser_tiles, vae_tiles

# How much ControlNets add, by diffusers: to text, to a picture, under a mask.
_CONTROL_SCALES = (1.0, 0.8, 0.5)


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Plans calls of one opened model.

    format: of the graphs that paint; what the folder lacks in it is refused.
    known_words: of a model that knows some words alone; prompts' other words are named.
    carry_out: what paints a plan.
    """

    family: Family
    format: str
    controlnets: Sequence[ControlNet]
    known_words: KnownWords | None
    carry_out: Callable[[Plan], PipelineOutput]

    def plan(self, request: Request) -> Plan:
        """Check everything without work.

        Raises SettingError, SchedulerError, PromptError or BundleError, naming what is wrong.
        """
        request = with_files_read(request)
        if not enlarging.enlarges(request):
            return self._pass(request, original_of(request.picture))
        enlarging.check_can_enlarge(self.family)
        if enlarging.is_enlarged_as_it_is(request):
            picture = enlarging.brought_to_size(request)
            only = self._enlarging_pass(request, picture.size)
            return only.onto(picture, only.jobs, self.family)
        first = self._pass(enlarging.first_pass(request), original_of(request.picture))
        return replace(first, then=self._enlarging_pass(request, first.visible))

    def _enlarging_pass(self, request: Request, picture: Pixels) -> Plan:
        """From a picture of that size, which is still to come."""
        assert request.enlarging.enlarge is not None
        enlargement = Enlargement(request.enlarging.enlarge, self.family.multiple)
        canvas = enlargement.canvas_size(picture)
        asked = enlarging.second_pass(self.family, request, canvas)
        return replace(self._pass(asked, None, enlargement), visible=enlargement.size(picture))

    def _pass(
        self, request: Request, original: Original | None, enlargement: Enlargement | None = None
    ) -> Plan:
        """One pass: from the picture `original`, or one that is still to come, or from text."""
        draft = self._draft(request, original, enlargement)
        settings = settled(draft)
        tiles = denoiser_tiles(draft, settings)
        span = span_of(draft)
        jobs = request.jobs()
        scheduler = self.family.scheduler(settings)
        timesteps = span.timesteps(scheduler)
        if draft.pictured and self.family.skips_steps:
            timesteps = range(first_step(scheduler, settings), timesteps.stop)
        visible = settings.width, settings.height
        if original is not None and original.keep_unmasked:
            visible = original.picture.size
        return Plan(
            request=request,
            settings=settings,
            decoder=decoder_of(draft),
            jobs=jobs,
            prompts=read_prompts(draft, settings, jobs, len(scheduler.timesteps)),
            tiles=tiles,
            vae_tiles=vae_tiles(draft, tiles),
            caching=draft.caching,
            controls=draft.controls,
            original=original,
            enlargement=enlargement,
            visible=visible,
            latents=start_noise(draft, settings),
            span=span,
            timesteps=timesteps,
            safety=chosen(self.family.bundle, request.answer.safety, self.format),
            then=None,
            carry_out=self.carry_out,
        )

    def _draft(
        self, request: Request, original: Original | None, enlargement: Enlargement | None
    ) -> Draft:
        """The pass with what ControlNets and kept features add, and the parts that it needs."""
        family, pictured = self.family, original is not None or enlargement is not None
        if pictured and family.encodes_pictures:
            family.bundle.graph("vae_encoder", self.format)  # BundleError where there is none
        masked = original is not None and original.mask is not None
        scale = _CONTROL_SCALES[pictured + masked]
        return Draft(
            family=family,
            format=self.format,
            known_words=self.known_words,
            request=request,
            original=original,
            enlargement=enlargement,
            controls=Controls.of(self.controlnets, request.control, scale),
            caching=Caching.of(request.reuse, family.cuts, family.bundle.name),
        )
