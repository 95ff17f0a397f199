"""What must be on this machine: `base.py` says what a need is, `hub.py` and `web.py` find it here and get it."""
