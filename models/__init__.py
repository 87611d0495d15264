"""The autoencoder, its latent, its losses, and encoders and decoders by modality (`image.py`, `audio.py`)."""
