"""Tests that take long on two cores, run by `pytest -m slow`: most have a shorter one beside them.

Here are also those that measure or learn for real. Of a matrix over engines, file layouts, sizes or
solvers the default suite keeps a row of each; ONNX Runtime's pictures are compared there with
diffusers' by test_parity and test_stable_diffusion_3, its graphs' edits by graphs/test_graph_edits
and test_residuals.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import pytest


def _of_solvers(test: str) -> list[str]:
    """A matrix over solvers: ddim, euler, euler_a and the dpmpp ones stay."""
    return [f"{test}(openvino-{name}*" for name in ("ddpm", "heun", "lcm", "lms", "plms", "unipc")]


# By file: names of tests with their parameters, with the wildcard *.
LONG = {
    "bench/test_flops.py": [
        "test_the_unet_is_what_torch_counts(onnx)",
        "test_the_unet_is_what_torch_counts(openvino)",
    ],
    "bench/test_operations.py": [
        "test_command",
    ],
    "bench/test_peers.py": [
        "test_pleinair_beside_genai",
        "test_systems_take_turns_and_the_first_step_does_not_count",
    ],
    "bench/test_quality.py": [
        "test_for_real",
    ],
    "bench/test_speed.py": [
        "test_one_configuration_for_real",
    ],
    "bench/test_start.py": [
        "test_command",
    ],
    "bench/test_systems.py": [
        "test_pleinair_and_diffusers_paint_the_same_picture*",
    ],
    "bench/test_throughput.py": [
        "test_command",
    ],
    "bench/test_unet.py": [
        "test_command_puts_batch_1_twice_*",
        "test_every_variant_predicts_what_torch_does*",
    ],
    "export/test_attention_tokens.py": [
        "*-2)",
        "test_deep_transformers_as_in_xl",
        "test_strided_attention_*(onnx-*",
    ],
    "export/test_cli.py": [
        "test_a_single_file_becomes_a_folder_in_models",
        "test_a_stopped_export_leaves_no_half_folder(for real)",
    ],
    "export/test_export.py": [
        "test_a_unet_distilled_with_its_guidance*",
    ],
    "export/test_graphs_sd3.py": [
        "test_a_traced_graph_is_its_module_*-onnx)",
    ],
    "export/test_in_pieces.py": [
        "test_large_denoisers_are_calibrated_in_pieces(onnx)",
        "test_what_goes_from_piece_to_piece_is_read_from_files(False-*",
    ],
    "export/test_int8_surgery.py": [
        "test_gated_projections_are_split(8)",
        "test_group_norms_by_their_moments(*-8)",
    ],
    "export/test_quantize.py": [
        "*(onnx*",
        "test_a_format_is_added_to_the_other",
        "test_the_manifest_stands_as_it_was_when_renaming_fails",
        "test_the_picture_is_near*",
        "test_weights_alone",
    ],
    "export/test_single_file_pictures.py": [
        "*",
    ],
    "export/test_solver.py": [
        "*(lcm)",
        "test_the_folder_says_what_the_catalog_*(heun)",
    ],
    "models/test_distillation.py": [
        "test_the_few_step_stage_ends_*",
        "test_the_tiny_stage_learns_*",
    ],
    "models/test_judge.py": [
        "test_the_classifier_is_small_and_learns_a_batch",
    ],
    "models/test_phrasings.py": [
        "test_it_learns",
    ],
    "models/test_pocket.py": [
        "test_backgrounds_are_the_colour_asked_for(re*",
        "test_backgrounds_are_the_colour_asked_for(robot)",
        "test_counts_to_three(1)",
        "test_few_steps_are_those_of_diffusers(onnxruntime)",
        "test_it_is_the_lora_that_paints_in_few_steps",
        "test_things_are_their_colour(a red heart*",
        "test_things_are_their_colour(a star*",
        "test_things_are_their_colour(a tomato*",
    ],
    "runtime/families/test_family_small_unets.py": [
        "*OnnxRuntimeEngine*",
        "*bk-sdm-small*",
        "*onnxruntime*",
        "*sdxs-dreamshaper*",
        "*ssd-1b*",
        "test_another_unet",
        "test_every_place_to_cut_at(*-tiny-sdxs)",
        "test_lora",
        "test_the_large_vae_in_place_of_the_tiny_one",
    ],
    "runtime/test_adapter_records.py": [
        "test_every_line_has_its_own_files_*",
    ],
    "runtime/test_bundle.py": [
        "test_the_flat_folder_of_stable_diffusion_openvino(2)",
    ],
    "runtime/test_cache.py": [
        "test_one_file_opened_in_many_ways",
    ],
    "runtime/test_command_line.py": [
        "test_watermark",
    ],
    "runtime/test_controlnet.py": [
        "*onnxruntime*",
        "test_a_unet_made_for_inpainting",
    ],
    "runtime/test_cut.py": [
        "*onnx*",
        "test_quantized_for_openvino",
        "test_steered_by_controlnets*",
        "test_the_parts_are_the_whole(openvino-1)",
        "test_the_parts_are_the_whole(openvino-3)",
        "test_the_parts_are_the_whole(openvino-4)",
    ],
    "runtime/test_enlarging.py": [
        "test_both_engines_enlarge_alike",
    ],
    "runtime/test_feature_cache.py": [
        "*onnxruntime*",
        "test_pictures_are_deep_caches(openvino-deepest)",
        "test_pictures_are_deep_caches(openvino-frozen)",
        "test_pictures_are_deep_caches(openvino-multistep)",
        "test_xl*",
    ],
    "runtime/test_few_steps.py": [
        "test_a_merged_lcm_lora_is_diffusers_fused(onnxruntime)",
        "test_a_unet_that_is_told_its_guidance_is_asked_once",
    ],
    "runtime/test_guidance_interval.py": [
        "*onnxruntime*",
        "test_a_latent_consistency_model",
        "test_by_instruction*",
    ],
    "runtime/test_guides.py": [
        'test_a_command_of_a_guide(--prompt "a photograph * --plms --ckpt sd-v1-4.ckpt)',
    ],
    "runtime/test_image_to_image.py": [
        "*onnxruntime*",
    ],
    "runtime/test_inpainting.py": [
        "*onnxruntime*",
        "test_every_argument(made_for_it-*",
        *_of_solvers("test_a_unet_of_nine_channels"),
    ],
    "runtime/test_instructions.py": [
        "*onnxruntime*",
        *_of_solvers("test_every_solver"),
    ],
    "runtime/test_kinds.py": [
        "*onnxruntime*",
        "test_turbo(*",
    ],
    "runtime/test_lora.py": [
        "*onnxruntime*",
        "test_dora_and_biases_of_peft(lora_bias)",
        "test_lycoris_kinds_are_those_of_peft(l*_*",
        "test_lycoris_kinds_are_those_of_peft(lokr-*",
        "test_outputs_are_those_of_diffusers_fused(diffusers-*",
        "test_outputs_are_those_of_diffusers_fused(kohya+peft-*",
        "test_outputs_are_those_of_diffusers_fused(p*",
    ],
    "runtime/test_max_memory.py": [
        "*onnxruntime*",
    ],
    "runtime/test_parity.py": [
        "test_every_scheduler(onnxruntime-*_exponential)",
        "test_every_scheduler(onnxruntime-*_karras)",
    ],
    "runtime/test_profiles.py": [
        "test_lora_files_go_with_every_profile(auto)",
    ],
    "runtime/test_shared_rows.py": [
        "*onnx*",
        "test_cut(5*",
    ],
    "runtime/test_stable_diffusion_3.py": [
        "*(onnxruntime-3 without*",
        "*(onnxruntime-3.5*",
        "*(openvino-3 without*",
    ],
    "runtime/test_upscaler.py": [
        "*onnxruntime*",
        *_of_solvers("test_every_solver"),
    ],
    "runtime/test_xl.py": [
        "*onnxruntime*",
        "test_lora",
        "test_the_refiner",
    ],
}


def _test(item: pytest.Item) -> str:
    """Its name, with parentheses around the parameters: brackets are wildcards' own."""
    return item.name.replace("[", "(", 1).removesuffix("]") + (")" if "[" in item.name else "")


def _long(items: Iterable[pytest.Item]) -> Iterator[tuple[pytest.Item, str]]:
    for item in items:
        for file, patterns in LONG.items():
            if item.path.as_posix().endswith(f"tests/{file}"):
                matching = (p for p in patterns if fnmatchcase(_test(item), p))
                yield from ((item, f"{file}: {pattern}") for pattern in matching)


def mark(items: Iterable[pytest.Item]) -> set[str]:
    """Mark the long tests; returns which lines of `LONG` name none of these."""
    found = set()
    for item, line in _long(items):
        item.add_marker("slow")
        found.add(line)
    return {f"{file}: {pattern}" for file, patterns in LONG.items() for pattern in patterns} - found
