"""Where runs and prepared data are kept: a directory, or a bucket that a directory of this machine is copied to."""
