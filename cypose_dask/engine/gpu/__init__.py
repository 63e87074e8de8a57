"""The network and the dynamics on a GPU, batched over the frames of a block. Imports torch.

**Half precision** (``--precision half``) computes the network's convolutions in float16 and
everything after it in float32. On three synthetic frames of 288 x 288 px (colony and lawn in phase
contrast, chains in brightfield; ``cyano-rods``, float16 emulated on a CPU) it found the same 547
cells; each overlapped its counterpart by more than 90 %, 20 of them differed by some pixels, and 4
of 108,816 foreground pixels became background or the reverse. Logits moved by 0.06 at most. Tiles
whose activations are too large for float16 (hot pixels far above the rest) are computed again in
single. ``single`` itself is not one thing: TF32, which torch allows for convolutions on newer
NVIDIA cards, rounds to as many bits as float16.

**Not yet run on a GPU**: everything here was tested on CPU tensors, with stand-ins for CUDA's
streams, events and memory figures. So unknown are the gain of overlapped copies, of channels-last
and of half precision; the best largest batch; whether the measured bytes of one tile predict those
of many; the estimate of memory for the dynamics; and equality to Cellpose on CUDA itself, where
sums of heat may be ordered by the number of pixels.
"""

from cypose_dask.engine.gpu.dynamics import follow_batch, label_frame, labels_from_flows_batched
from cypose_dask.engine.gpu.forward import TorchRuntime

__all__ = ["TorchRuntime", "follow_batch", "label_frame", "labels_from_flows_batched"]
