"""Synthetic production-line images with exact defect masks, in the MVTec AD folder layout."""
