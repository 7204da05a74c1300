"""Model `attention`: a transformer over the teeth of a mouth, poses in and poses out."""
