"""Training: one script (`main`), its parts, and the tasks."""
