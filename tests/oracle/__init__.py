"""A second implementation of refvit's numbers in plain Python, written from tests/vectors/SPEC.md and KIT.md alone.

It shares no code with refvit, uses neither NumPy nor the machine's binary32, and is meant to be read beside the text:
`floats` (section 1), `rows` (N9), `codes` (N1, N3 to N5), `packing` (N2), `products` (N6 to N8), `attention` (N10),
`pixels` (N12), `backward` (N13), `swin` and `models` (section 3), `architecture`, `metadata` and `packedfile` (section
4), `seeded` (section 5); `tensors`, `operations` and `answer` are for kits. Arrays are lists, or lists of lists; an f32
value is a Python float (binary64) that binary32 can hold. `python -m tests.oracle KIT OUTPUTS` answers a kit.
"""
