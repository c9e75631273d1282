"""Starting the app: Streamlit in this process, on loopback, without usage statistics."""

from __future__ import annotations

import importlib.util
import socket
import threading
from pathlib import Path

from pipeline.config import AppConfig
from pipeline.errors import InputError
from pipeline.tables import storage

SCRIPT = Path(__file__).parent / "entry" / "inspect_store.py"
_INSTALL = "in a clone, python -m pip install --constraint constraints.txt '.[app]'"


def serve(config: AppConfig) -> str:
    """Runs the app until it is interrupted.

    Raises:
        InputError: Streamlit isn't installed, there is no such store, or the port is taken.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise InputError(f"app: needs Streamlit, which isn't installed: {_INSTALL}")
    store = storage.absolute(config.store)
    with storage.errors_for(store, "store"):
        if not storage.exists(store):
            raise InputError(f"store: {store}: there is no such folder or prefix")
    _require_free(config.address, config.port)
    from streamlit.web import bootstrap

    settings = config.model_dump_json()
    # Loaded here, what the pages import doesn't keep the first visitor waiting.
    import pipeline.app.screen.page  # noqa: F401
    from pipeline.app.desk import desk_of

    threading.Thread(target=desk_of(settings).warm, daemon=True).start()
    options = server_options(config)
    bootstrap.load_config_options(options)
    bootstrap.run(str(SCRIPT), False, [settings], options)
    return "app: ended"


def server_options(config: AppConfig) -> dict[str, object]:
    """Streamlit's settings, whatever a config of the user's says."""
    return {
        "server.address": config.address,
        "server.port": config.port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": config.max_upload_mb,
        "server.enableStaticServing": False,
        # A busy machine may leave a browser waiting: its session is not to be lost for that.
        "server.websocketPingInterval": 120,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }


def _require_free(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise InputError(
                f"address: {address}:{port}: can't be listened on ({error.strerror}); give another "
                "port="
            ) from None
