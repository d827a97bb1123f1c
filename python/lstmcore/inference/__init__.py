"""Networks made over for fast prediction on servers and desktops."""
