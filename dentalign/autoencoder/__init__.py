"""Tooth autoencoder: points of a tooth in, a latent of one feature vector per point out, and back."""
