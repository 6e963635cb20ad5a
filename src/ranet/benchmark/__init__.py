"""Whether early exit pays, measured: the engine against the same network whole, as trained, and against static rivals.

`measure` times everything in turns (`timing`) against `opponents`, among them `rivals`; `results` says what follows
from the times, in `sentences`, a `report` and a `figure`.
"""
