"""From a trained run to a codec: codes as bytes, files in and out, an export, and a look into the latent."""
