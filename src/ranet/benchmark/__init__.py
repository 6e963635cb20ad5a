"""Whether early exit pays, measured: the engine against the same network whole, as trained, and against static rivals.

`measure` lets the engine and its `opponents`, among them `rivals`, take `turns`; `results` are what it found, and
`sentences`, a `report` and a `figure` show them.
"""
