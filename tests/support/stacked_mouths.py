"""Single mouths as one `Mouths`."""

import numpy as np

from dentalign.mouth import Mouth, Mouths


def stacked(*mouths: Mouth) -> Mouths:
    """Mouths of the same number of points, with latents if all have them."""
    latents = [mouth.latents for mouth in mouths if mouth.latents is not None]
    return Mouths(
        np.stack([mouth.points for mouth in mouths]),
        np.stack([mouth.pose for mouth in mouths]),
        np.stack([mouth.present for mouth in mouths]),
        np.stack(latents) if len(latents) == len(mouths) else None,
    )
