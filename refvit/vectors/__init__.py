"""Test vectors of every rule: a kit for other implementations, refvit's answers to it, and the verdict on theirs."""
