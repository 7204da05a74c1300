"""Clinical measures of a mouth from landmarks of its crowns: overjet, molar class, crowding, Bolton, ..."""
