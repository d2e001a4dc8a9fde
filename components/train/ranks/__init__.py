"""The processes that train one network together: collectives, heartbeats and requests to stop."""
