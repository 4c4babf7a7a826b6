"""GPT-J in OpenVINO, which compiles a graph for the processor it is run on."""
