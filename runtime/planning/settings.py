"""The settings of a pass: what is asked for, checked, with the model's defaults."""

from dataclasses import replace

from ..denoise.guidance import Guidance, rescaled
from ..errors import Message, SettingError
from ..families.settings import Settings
from ..images.original import Original
from ..options.groups import Sampling
from .draft import Draft
from .sizes import painted_size

# diffusers': of image to image, and of inpainting.
_STRENGTH, _MASKED_STRENGTH = 0.8, 1.0


def settled(draft: Draft) -> Settings:
    """Everything that kinds of models make something of; SettingError names what cannot be."""
    family, request, original = draft.family, draft.request, draft.original
    sampling, recommended = request.sampling, family.recommended
    family.check_call(request.picture, request.family_options)
    _check_strength_has_a_picture(draft)
    width, height = painted_size(draft)
    steps = _steps(sampling.num_inference_steps, recommended.steps)
    _check_sampling(sampling)
    _check_answer(draft)
    family.check_clip_skip(request.prompting.clip_skip)
    _check_decoder(draft)
    strength, drawn_from = _strength(original, request.picture.strength), 1.0
    scheduler = sampling.scheduler or recommended.scheduler
    if family.draws_all_steps(scheduler, request.picture):
        strength, drawn_from = 1.0, strength
    scale = sampling.guidance_scale
    scale = float(recommended.guidance_scale if scale is None else scale)
    return Settings(
        width=width,
        height=height,
        steps=steps,
        scheduler=scheduler,
        eta=float(sampling.eta),
        guidance_scale=scale,
        guidance=_guidance(draft, scale),
        strength=strength,
        drawn_from=drawn_from,
        canvas=family.canvas(original, width, height) if original else None,
        options=request.family_options,
    )


def _steps(asked: int | None, recommended: int) -> int:
    steps = recommended if asked is None else asked
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
    if not 0 <= sampling.eta <= 1:
        raise SettingError(Message("{eta} is {0:g}; give 0 to 1", sampling.eta))


def _check_answer(draft: Draft) -> None:
    original, answer = draft.original, draft.request.answer
    if original and original.keep_unmasked and answer.output_type == "latent":
        raise SettingError(
            Message("{keep_unmasked} is about pictures; {output_type} 'latent' gives none")
        )


def _check_decoder(draft: Draft) -> None:
    family, bundle = draft.family, draft.family.bundle
    if draft.request.size.vae == "tiny" and family.tiny_decoder not in bundle.graphs[draft.format]:
        raise SettingError(
            f"{bundle.name} has no tiny decoder; export it anew with: pleinair-export --tiny-vae"
        )
