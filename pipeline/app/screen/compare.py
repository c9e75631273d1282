"""What changes sides."""

from __future__ import annotations

import streamlit as st

from pipeline.app.screen.looking import Looking


def show(look: Looking) -> None:
    """The page."""
    st.info(f"Nothing to compare {look.run_id} with yet.")
