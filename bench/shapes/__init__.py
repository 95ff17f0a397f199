"""The embedded world: scenes, captions, an exact detector, and small trained models. See docs/shapes.md."""
