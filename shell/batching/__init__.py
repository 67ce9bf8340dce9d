"""Many clips at once: a folder or a list of jobs becomes a folder of takes."""
