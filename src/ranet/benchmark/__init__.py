"""Whether early exit pays, measured: the engine against the same network whole, as trained, and against static rivals.

`measure` lets the engine and its opponents (`rivals`) take `turns`; a `report` and a `figure` show the `results`.
"""
