"""Convolutions of 3 x 3 px with a quarter of the multiplications.

Winograd's minimal filtering: a tile of 6 x 6 px is transformed, multiplied by transformed weights,
and transformed back into 4 x 4 px, which takes 36 multiplications a channel instead of 144. What is
left is a product of matrices, so the network runs faster than a processor can multiply it out.

Source: A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.

=============  ====================================================================
`lanes`        sixteen float32 as a type for numba's kernels
`product`      products of matrices
`filtering`    the transforms
`convolution`  pictures in, pictures out
`memory`       room for pictures, used again
`operations`   the network's operations, put together so that each picture is written once
=============  ====================================================================
"""
