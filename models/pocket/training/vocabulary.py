"""The words of the model: its things, styles and backgrounds.

Names come from the labels and tags of emojibase-data 17.0.0 (MIT, copyright Miles Johnson), in
English and Chinese; `subjects.json` holds those chosen, with a few everyday English names added.
"""

import json
from pathlib import Path

_VOCABULARY = json.loads((Path(__file__).parent / "subjects.json").read_text("utf-8"))

#: Style named in captions -> icon set.
STYLES: dict[str, str] = _VOCABULARY["styles"]
#: Background named in captions -> {"rgb": sRGB bytes, "zh": its Chinese name}.
BACKGROUNDS: dict[str, dict] = _VOCABULARY["backgrounds"]
#: Thing -> {"icon": name in the icon sets, "also": other English names, "zh": Chinese names}, and
#: "label", emojibase's own name, where that is no everyday word.
SUBJECTS: dict[str, dict] = _VOCABULARY["subjects"]
#: Thing -> its "en" and "zh" names that only the text encoder's second training says, so that the
#: first one's captions, and what `evaluate` asks for, stay as they were.
FURTHER_NAMES: dict[str, dict] = _VOCABULARY["further_names"]
