"""Motoric: motion recordings in, trained models out, predictions over HTTP, on Ray.

The folders below stand in the order that data takes: `core`, `data`, `artefact`, `models`,
`training`, `optimization`, `registry`, `workflows`, `serving`, `cluster`, `cli`.
"""

__version__ = "0.1.0"
