"""Models: `base.py` says what one is, the other files hold one pipeline family each."""
