"""Seeded bugs in refvit's NumPy engine, each answered through the whole kit: what a port's bug would look like.

A mutant is an edit of the engine's source (plant.py), not a function of hypotheses.py, which names mistakes.
"""

from . import codes, files, floats, models

MUTANTS = floats.MUTANTS + codes.MUTANTS + models.MUTANTS + files.MUTANTS
