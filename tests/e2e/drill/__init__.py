"""The fault drill: a part is killed at a named step, and afterwards everything must be exact."""
