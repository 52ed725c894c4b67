"""Launch files for clusters, as they are shipped, and what is known of such files before anything is started.

`psf-search cluster init NAME` copies one, `psf-search cluster check FILE` reads one (docs/clusters.md).
"""
