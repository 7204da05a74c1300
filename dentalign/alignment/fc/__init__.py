"""Model `fc`: a fully connected autoencoder, latents at T1 in and latents at T2 out."""
