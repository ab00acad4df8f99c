"""Speed and memory, beside other engines and against the limits of the machine."""
