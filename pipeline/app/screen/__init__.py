"""The pages: the only modules that import Streamlit."""
