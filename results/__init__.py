"""What a run found: its files, trials, tables, figures and exported model. Imports neither torch nor ray."""
