"""The recurrent stack in plain NumPy, float64: what every engine is compared with.

One module a cell holds its equations forward and, below them, the derivative written out by hand; `products` holds
the products with W and R and their layer normalisation; `driver` holds what is common to cells: time, layers,
directions, lengths and states.
Nothing here is shared with the library, so that a mistake would have to be made twice to go unnoticed.
"""
