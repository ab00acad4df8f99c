"""To be looked at: one output worked through step by step, and pages of models, runs and benchmarks."""
