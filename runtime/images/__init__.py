"""Pictures on disk: saving with parameters, numbering, contact sheets."""
