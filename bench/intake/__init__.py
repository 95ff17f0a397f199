"""Images that the harness did not make."""
