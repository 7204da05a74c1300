"""Plans that can be made: distances between crowns, and the treatment stages from T1 to T2."""
