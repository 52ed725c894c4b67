"""Lens files of every format: read strictly, and written as the JSON that DeepLens loads. `lens_file.find_lens` is the way in."""
