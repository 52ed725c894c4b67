"""The PSF systems: kernels of a lens at field points."""
