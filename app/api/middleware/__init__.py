"""What every request passes before its route: plain ASGI classes."""
