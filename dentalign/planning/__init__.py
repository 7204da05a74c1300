"""What a plan must obey: the prescription, distances between crowns, poses and stages without collisions."""
