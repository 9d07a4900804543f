"""Kinds of models, a file each: what differs between them stands here and nowhere else."""
