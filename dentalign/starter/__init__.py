"""Starter weights: encoder, decoder and alignment model trained on made-up plans, see `card.json`.

`tools/starter_weights.py` makes them. `dentalign predict` uses them where nothing else is trained, and a
training may begin with them (`train.start_from: starter`).
"""
