"""Writes down each pause of Python's garbage collector above 1 ms, in a process that has this on its path.

The benchmark puts this folder first in ``PYTHONPATH`` and names the file in ``BENCH_GC_PAUSES``. A line is
``<wall clock, seconds> <generation> <pause, milliseconds>``. It changes nothing in the program itself.
"""

import gc
import os
import time

_target = os.environ.get("BENCH_GC_PAUSES")
if _target:
    with open(_target, "a", encoding="ascii"):
        pass  # an empty file says that somebody looked
    _began = [0.0]

    def _note(phase: str, info: dict[str, int], *, name: str = _target) -> None:
        if phase == "start":
            _began[0] = time.perf_counter()
        elif (pause := (time.perf_counter() - _began[0]) * 1000) > 1.0:
            with open(name, "a", encoding="ascii") as file:
                file.write(f"{time.time():.3f} {info['generation']} {pause:.2f}\n")

    gc.callbacks.append(_note)
