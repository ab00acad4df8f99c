"""Traces of other implementations held against this one's, and a verdict that names the first wrong operation."""
