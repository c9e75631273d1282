"""The inspection app: plain modules that know nothing of Streamlit, and thin pages on top."""
