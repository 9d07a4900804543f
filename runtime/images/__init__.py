"""Pictures: read and fitted, masks and edges, sheets, previews, watermarks."""
