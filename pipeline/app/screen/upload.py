"""Scoring images of one's own."""

from __future__ import annotations

import streamlit as st

from pipeline.app.screen.looking import Looking


def show(look: Looking) -> None:
    """The page."""
    st.info(f"No bundle for {look.run_id} yet.")
