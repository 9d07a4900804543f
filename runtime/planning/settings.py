"""The settings of a pass: what is asked for, checked, with the model's defaults."""

from collections.abc import Sequence
from dataclasses import replace

from ..denoise.guidance import Guidance, rescaled
from ..errors import Message, SettingError, shown
from ..families.settings import Settings
from ..images.original import Original
from ..model.catalog import Recommended
from ..options.groups import Sampling
from .draft import Draft
from .sizes import painted_size

# diffusers': of image to image, and of inpainting.
_STRENGTH, _MASKED_STRENGTH = 0.8, 1.0
_MOST_STEPS = 1000


def settled(draft: Draft) -> Settings:
    """Everything that kinds of models make something of; SettingError names what cannot be."""
    family, request, original = draft.family, draft.request, draft.original
    sampling, recommended = request.sampling, family.recommended
    family.check_call(request.picture, request.family_options)
    _check_strength_has_a_picture(draft)
    width, height = painted_size(draft)
    _check_sampling(sampling)
    scheduler = sampling.scheduler or recommended.scheduler
    timesteps = _timesteps(sampling, recommended)
    steps = len(timesteps) if timesteps else _steps(sampling, recommended)
    _check_answer(draft)
    family.check_clip_skip(request.prompting.clip_skip)
    strength, drawn_from = _strength(original, request.picture.strength), 1.0
    if family.draws_all_steps(scheduler, request.picture):
        strength, drawn_from = 1.0, strength
    scale = sampling.guidance_scale
    scale = float(recommended.guidance_scale if scale is None else scale)
    return Settings(
        width=width,
        height=height,
        steps=steps,
        scheduler=scheduler,
        timesteps=timesteps,
        eta=_eta(sampling, recommended),
        guidance_scale=scale,
        guidance=_guidance(draft, scale),
        strength=strength,
        drawn_from=drawn_from,
        canvas=family.canvas(original, width, height) if original else None,
        options=request.family_options,
    )


def _is_solved_as_recommended(sampling: Sampling, recommended: Recommended) -> bool:
    """Whether the solver is the model's, so that what is recommended for it holds."""
    return sampling.scheduler in (None, recommended.scheduler)


def _eta(sampling: Sampling, recommended: Recommended) -> float:
    usual = recommended.eta if _is_solved_as_recommended(sampling, recommended) else None
    return float((usual or 0.0) if sampling.eta is None else sampling.eta)


def _timesteps(sampling: Sampling, recommended: Recommended) -> tuple[int, ...] | None:
    """Those that are asked for, else the model's, unless it is asked for other steps or solvers."""
    steps, asked = sampling.num_inference_steps, sampling.timesteps
    if asked is None:
        usual = recommended.timesteps
        fits = usual is not None and steps in (None, len(usual))
        return usual if fits and _is_solved_as_recommended(sampling, recommended) else None
    found = _listed(asked)
    if steps not in (None, len(found)):
        raise SettingError(
            Message(
                "{timesteps} are {0}, and {num_inference_steps} is {1}; leave one of them out",
                len(found),
                steps,
            )
        )
    return found


def _listed(timesteps: str | Sequence[int]) -> tuple[int, ...]:
    """Whole numbers, in a list or with commas between them; the solver says which it takes."""
    items = timesteps.split(",") if isinstance(timesteps, str) else timesteps
    try:
        found = tuple(int(item) for item in items)
    except ValueError:
        found = ()
    if not 1 <= len(found) <= _MOST_STEPS:
        raise SettingError(
            Message(
                "{timesteps} is {0}; give whole numbers with commas between them: 999,749,499,249",
                shown(repr(timesteps)),
            )
        )
    return found


def _steps(sampling: Sampling, recommended: Recommended) -> int:
    asked = sampling.num_inference_steps
    steps = recommended.steps if asked is None else asked
    if steps < 1:
        raise SettingError(Message("{num_inference_steps} is {0}; give 1 or more", steps))
    return steps


def _guidance(draft: Draft, scale: float) -> Guidance:
    """The family's at this scale, in the steps that are asked for."""
    sampling, caching = draft.request.sampling, draft.caching
    guidance = draft.family.guidance(scale, draft.request.family_options)
    return replace(
        rescaled(guidance, sampling.guidance_rescale),
        start=float(sampling.guidance_start),
        stop=float(sampling.guidance_stop),
        kept=caching is not None and caching.keeps_guidance,
        steered=draft.request.control.control_image is not None,
    )


def _strength(original: Original | None, strength: float | None) -> float:
    if strength is None:
        return _MASKED_STRENGTH if original and original.mask else _STRENGTH
    if not 0 < strength <= 1:
        raise SettingError(
            Message("{strength} is {0:g}; give more than 0, and at most 1", strength)
        )
    return float(strength)


def _check_strength_has_a_picture(draft: Draft) -> None:
    if draft.request.picture.strength is not None and not draft.pictured:
        raise SettingError(
            Message("{strength} says how far {image} is changed, and there is none; give {image}")
        )


def _check_sampling(sampling: Sampling) -> None:
    start, stop = sampling.guidance_start, sampling.guidance_stop
    if not 0 <= start < stop <= 1:
        raise SettingError(
            Message(
                "{guidance_start} is {0:g} and {guidance_stop} {1:g}; give shares of the "
                "steps, 0 <= start < stop <= 1",
                start,
                stop,
            )
        )
    if sampling.eta is not None and not 0 <= sampling.eta <= 1:
        raise SettingError(Message("{eta} is {0:g}; give 0 to 1", sampling.eta))


def _check_answer(draft: Draft) -> None:
    original, answer = draft.original, draft.request.answer
    if original and original.keep_unmasked and answer.output_type == "latent":
        raise SettingError(
            Message("{keep_unmasked} is about pictures; {output_type} 'latent' gives none")
        )


def decoder_of(draft: Draft) -> str:
    """The part that makes pixels of latents: what is asked for, else what the model recommends,
    where it is there in this format.
    """
    bundle, asked, tiny = draft.family.bundle, draft.request.size.vae, draft.family.tiny_decoder
    is_there = tiny in bundle.graphs[draft.format]
    if asked == "tiny" and not is_there:
        raise SettingError(
            f"{bundle.name} has no tiny decoder; export it anew with: pleinair-export --tiny-vae"
        )
    wanted = asked or draft.family.recommended.vae
    return tiny if wanted == "tiny" and is_there else "vae_decoder"
