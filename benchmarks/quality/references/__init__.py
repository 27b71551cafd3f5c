"""References, each a process in the peers' environment: `python -m benchmarks.quality.references.NAME FOLDER`.

FOLDER holds what `benchmarks.quality.handing` wrote: the very samples of each split. Prints JSON with `score`.
"""
