"""The script alone: Streamlit puts its folder on Python's path, where it must shadow nothing."""
