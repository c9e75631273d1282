"""linescore: rescoring archives of production-line images."""
