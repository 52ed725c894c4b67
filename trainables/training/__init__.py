"""Training of one trial: loop, step, state, schedules, losses, checkpoints. Knows no system."""
