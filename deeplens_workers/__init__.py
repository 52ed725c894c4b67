"""Lens -> rays -> PSF kernels: the only package that imports deeplens. Ray actors render, a cache keeps."""
