"""A server with Qdrant's engine: `qdrant-edge-py` behind the part of Qdrant's REST API we use."""
