"""What the core asks of the world: one small Protocol a file, beside the frozen values it exchanges.

An integrator implements a port by writing a class with its methods; no base class is needed. Every
docstring here says what a repeated call does and what absence means. ``autoretrain.entrypoints.testing``
holds one behavioural suite a port, to be run over any implementation.
"""
