"""What Streamlit runs for every view: the settings are its only argument."""

import sys

from pipeline.app.screen.page import page

page(sys.argv[1])
