"""Mutants that change nothing that can be seen: (file, line of code, old, new): why."""

KNOWN = {}
