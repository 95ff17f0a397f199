"""Training an NPNet on noise pairs, or fine-tuning one."""
