"""GPT-J in ONNX Runtime: the ONNX graph, which needs `onnx` alone, and the backend that runs it.

ONNX Runtime's own builds report their use to Microsoft, unless this variable was set before they
were imported. To let them, set it to 0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
