"""Federation by Flower: sites train on their own questions and knowledge bases, and only weights travel."""

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # Flower reads these two as it is imported
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
