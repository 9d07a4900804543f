"""How well a picture shows its prompt, as CLIP sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pleinair.runtime.errors import SettingError, to_install
from pleinair.runtime.files import read_json
from pleinair.runtime.images.clip import ClipPreprocessor


@dataclass(frozen=True)
class ClipScore:
    """max(100 cos(text, picture), 0) in CLIP's space: CLIPScore without its factor of 2.5.

    Hessel et al. 2021, section 3. Compare scores of one CLIP alone.
    """

    model: Any
    tokenizer: Any
    preprocessor: ClipPreprocessor

    @classmethod
    def open(cls, folder: Path) -> "ClipScore":
        """A folder of transformers' CLIPModel, with tokenizer and preprocessor_config.json.

        Raises SettingError where it is none, or torch and transformers are not here; BundleError
        for a preprocessor that is not CLIP's.
        """
        try:
            from transformers import CLIPModel, CLIPTokenizer
        except ImportError:
            raise SettingError(
                f"--clip needs transformers and torch; install them with: {to_install('export')}"
            ) from None
        config = read_json(folder / "config.json", "give the folder of a CLIP model")
        if config.get("model_type") != "clip":
            raise SettingError(f"{folder}: a {config.get('model_type')} model; give a CLIP model")
        preprocessor = ClipPreprocessor.of(read_json(folder / "preprocessor_config.json"))
        try:
            model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise SettingError(f"{folder}: {str(error).splitlines()[0]}") from error
        return cls(model, tokenizer, preprocessor)

    def __call__(self, prompts: Sequence[str], pictures: Sequence[Image.Image]) -> list[float]:
        """The score of each picture with its own prompt, of which CLIP reads 75 tokens."""
        import torch

        scores = []
        with torch.inference_mode():
            for prompt, picture in zip(prompts, pictures, strict=True):
                words = self.tokenizer(prompt, truncation=True, return_tensors="pt")
                dots = torch.from_numpy(self.preprocessor(picture.convert("RGB")))
                found = self.model(pixel_values=dots, **words)
                cosine = (found.text_embeds * found.image_embeds).sum()  # both of length one
                scores.append(max(100.0 * float(cosine), 0.0))
        return scores
