"""From what a person has to what a person wants: one file per task, all that it needs in it."""
