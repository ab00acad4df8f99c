"""Other implementations held against this one: traces, and a verdict that names the first wrong operation."""
