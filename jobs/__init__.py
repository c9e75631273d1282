"""The jobs: one file per `ray job submit`, each a page."""
