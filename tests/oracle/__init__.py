"""A second implementation of refvit's numbers in plain Python, written from tests/vectors/SPEC.md and KIT.md alone.

It shares no code with refvit, uses neither NumPy nor the machine's binary32, and is meant to be read beside the text:
floats, rows (N9), codes and packing (N1-N5), products (N6-N8), attention (N10), swin (section 3), packedfile (section
4), models (section 3), seeded (section 5). Arrays are lists, or lists of lists; an f32 value is a Python float (binary64)
that binary32 can hold. `python -m tests.oracle KIT OUTPUTS` answers a kit.
"""
