"""The autoencoder (`autoencoder.py`), its latent (`latent.py`) and its encoders and decoders by modality."""
