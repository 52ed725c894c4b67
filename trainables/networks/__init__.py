"""Building blocks of the networks, and the VAE they make."""
