"""What is searched: space files (YAML) and their typed models. Imports neither torch nor ray."""
