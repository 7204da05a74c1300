"""Plans that can be made: the prescription, distances between crowns, poses that obey, treatment stages."""
