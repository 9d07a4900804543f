"""Contact sheets: many pictures on one."""

from collections.abc import Sequence

from PIL import Image


def grid(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """All pictures in rows of `columns`, edge to edge on white; cells as large as the largest."""
    columns = min(columns, len(images))
    width = max(image.width for image in images)
    height = max(image.height for image in images)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet
